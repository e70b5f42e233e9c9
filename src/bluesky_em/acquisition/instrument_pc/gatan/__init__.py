"""Drive a Gatan imaging filter through DigitalMicrograph."""
