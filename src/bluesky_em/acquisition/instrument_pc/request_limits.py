"""Limits on everything that a request contains, checked before anything is done with it.

Python 3.7 syntax, and only the standard library: it runs inside DigitalMicrograph. `wire` limits
the bytes of a message and the types in it; values of settings and options have limits of their own,
which the driver knows.
"""

import math

REFERENCE_LIMIT = 512  # characters of a reference; a uid and a long device name have 100
NAME_LIMIT = 128  # characters of the name of a detector, setting or option
ENTRIES_LIMIT = 64  # options of an exposure
NESTING_LIMIT = 16  # levels of lists and dictionaries within a value
FRAMES_LIMIT = 1 << 24  # frames of a fly scan; a map of 4096 x 4096 points
UPDATES_LIMIT = 1 << 20  # frames or lines of a burst that are each an entry of the spool
NUMBER_LIMIT = 1 << 40  # number of a frame in its run
DURATION_LIMIT = 86400.0  # seconds that a frame of a fly scan may be expected to take
RELEASE_LIMIT = 1 << 20  # references that are released in one call
FETCH_LIMIT = 1 << 53  # bytes; where a fetch may begin, and what it may ask for
SHAPE_ENTRIES = 2  # of a map: lines, and points of a line

_ORDER_FIELDS = {"base", "first", "frames", "duration", "options", "scan"}
_SCAN_FIELDS = {"shape", "region", "sync"}
_SHOWN = 60  # characters of a wrong value in an error


def check_reference(reference, what="reference"):
    """Check that this is the text of a reference (TypeError, ValueError)."""
    _check_text(what, reference, REFERENCE_LIMIT)


def check_references(references):
    """Check a list of references (TypeError, ValueError)."""
    if not isinstance(references, (list, tuple)):
        raise TypeError("references are {}; give a list of text".format(_shown(references)))
    if len(references) > RELEASE_LIMIT:
        raise ValueError(
            "{} references are too many for one call; give at most {}".format(
                len(references), RELEASE_LIMIT
            )
        )
    for reference in references:
        check_reference(reference)


def check_name(what, name):
    """Check the name of a detector, setting or option (TypeError, ValueError)."""
    _check_text(what, name, NAME_LIMIT)


def check_value(what, value):
    """Check that the lists and dictionaries in a value are not nested too deeply (ValueError)."""
    level = [value]
    for _ in range(NESTING_LIMIT + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return
    raise ValueError(
        "{} has lists or dictionaries in more than {} levels; give a plain value".format(
            what, NESTING_LIMIT
        )
    )


def check_options(options):
    """Check the options of an exposure (TypeError, ValueError); their values are the driver's."""
    if not isinstance(options, dict):
        raise TypeError("options are {}; give a dictionary".format(_shown(options)))
    if len(options) > ENTRIES_LIMIT:
        raise ValueError("{} options are given; at most {}".format(len(options), ENTRIES_LIMIT))
    for name, value in options.items():
        check_name("option", name)
        check_value("option {!r}".format(name), value)


def check_exposure(detector, options):
    """Check what an exposure is asked for with (TypeError, ValueError)."""
    check_name("detector", detector)
    check_options(options)


def check_fetch(reference, start, size):
    """Check what bytes of a frame are asked for (TypeError, ValueError)."""
    check_reference(reference)
    _check_count("start", start, 0, FETCH_LIMIT)
    _check_count("size", size, 0, FETCH_LIMIT)


def check_order(order):
    """Check the order of a fly scan, as it came over the network (TypeError, ValueError)."""
    _check_fields("order", order, _ORDER_FIELDS, _ORDER_FIELDS | {"entry"})
    longest = len(str(NUMBER_LIMIT)) + 1  # a reference is <base>/<number>
    _check_text("base", order["base"], REFERENCE_LIMIT - longest)
    entry = order.get("entry", "block")
    _check_text("entry", entry, NAME_LIMIT)
    _check_count("frames", order["frames"], 1, FRAMES_LIMIT if entry == "block" else UPDATES_LIMIT)
    _check_count("first", order["first"], 0, NUMBER_LIMIT - FRAMES_LIMIT)
    _check_duration(order["duration"])
    check_options(order["options"])
    if order["scan"] is not None:
        _check_scan(order["scan"])


def _check_scan(scan):
    _check_fields("scan", scan, _SCAN_FIELDS, _SCAN_FIELDS)
    shape = scan["shape"]
    if not isinstance(shape, (list, tuple)) or len(shape) != SHAPE_ENTRIES:
        raise ValueError("shape is {}; give lines and points of a map".format(_shown(shape)))
    _check_count("lines", shape[0], 1, FRAMES_LIMIT)
    _check_count("points", shape[1], 1, FRAMES_LIMIT)
    if shape[0] * shape[1] > FRAMES_LIMIT:
        raise ValueError(
            "a map of {} x {} has too many points; give at most {}".format(
                shape[0], shape[1], FRAMES_LIMIT
            )
        )
    check_value("region", scan["region"])
    _check_text("sync", scan["sync"], NAME_LIMIT)


def _check_fields(what, fields, required, known):
    if not isinstance(fields, dict):
        raise TypeError("{} is {}; give a dictionary".format(what, _shown(fields)))
    missing, unknown = required - set(fields), set(fields) - known
    if missing or unknown:
        raise ValueError(
            "{} has the fields {}; give {}".format(
                what, _shown(list(fields)), ", ".join(sorted(known))
            )
        )


def _check_text(what, text, limit):
    if not isinstance(text, str):
        raise TypeError("{} is {}; give text".format(what, _shown(text)))
    if len(text) > limit:
        raise ValueError(
            "{} has {} characters, {}; give at most {}".format(what, len(text), _shown(text), limit)
        )


def _check_count(what, count, least, most):
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError("{} is {}; give a whole number".format(what, _shown(count)))
    if not least <= count <= most:
        raise ValueError("{} is {}; give {} to {}".format(what, count, least, most))


def _check_duration(duration):
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError("duration is {}; give seconds".format(_shown(duration)))
    if not (math.isfinite(duration) and 0 <= duration <= DURATION_LIMIT):
        raise ValueError("duration is {}; give 0 to {:g} s".format(duration, DURATION_LIMIT))


def _parts(value):
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, (list, tuple)) else ()


def _shown(value):
    """Return the beginning of a value for an error; what is inside it may be nested deeply."""
    if isinstance(value, (dict, list, tuple)):
        return "a {} of {} entries".format(type(value).__name__, len(value))
    if isinstance(value, (str, bytes)) and len(value) > _SHOWN:
        return "{!r}...".format(value[:_SHOWN])
    return repr(value)
