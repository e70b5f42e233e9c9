"""Drive a Thermo Fisher microscope through AutoScript."""
