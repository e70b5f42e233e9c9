"""The protocol between a control PC and an acquisition server (Python 3.7 syntax).

The server is a Pyro5 object; a message is plain msgpack, at most 32 MB (see `wire`). A reference is
text; a detector is named as its driver names it; `options` and `order` are dictionaries. Everything
in a request has limits, see `request_limits`.

Methods, by what they are for:

    ping()                             nothing; shows that the connection works
    identity()                         {vendor, name, simulated, ...} of the instrument
    status()                           {exposing, frames, bytes, capacity, time, protocol}:
                                       is an exposure running, the spool's frames, their bytes, the
                                       bytes it can hold, this PC's clock (s), PROTOCOL

    settings()                         {name: {units, dtype, writable, limits, choices}}
    get(name)                          a setting's value; <name>.low and <name>.high: its limits
    set(name, value)                   what the hardware reads back

    layout(detector, options)          [shape, dtype] of the frame that these options produce
    preflight(detector, options)       bytes of that frame; ValueError if it can never fit
    expose(reference, detector, options, thumbnail=False, again=False)
                                       header and summary, once the frame is on the disk; `again`
                                       repeats an exposure of this reference that was interrupted
    keep(reference)                    as expose, of a frame that could not be written then (EIO)

    arm(detector, order)               prepare a detector for a fly scan; order: see `FlyOrder`
    kickoff(detector)                  start, once all armed detectors are kicked off
    progress(detector)                 {captured, block, done, error, waiting, header}
    hold() / resume()                  pause and resume a fly scan
    abort()                            end an exposure or fly scan as soon as the vendor allows

    references()                       [reference, ...] in the spool
    header(reference)                  a frame's header
    fetch(reference, start, size)      bytes of its pixels, at most MAX_FETCH; none past its end
    release(references)                remove frames from the spool; absent ones are ignored

Keys of a header:

    reference                          the frame's own; of a block, its first frame's
    shape, dtype                       of the pixels (C order, little-endian); a block's first axis
                                       counts its frames
    nbytes, checksum                   of the pixels; the checksum is CRC-32
    axes                               one for each dimension of a frame: {name, units, offset,
                                       scale, size}; value_i = offset + scale * i
    metadata                           facts from the driver, in the units that `Exposure` states
    started, ended                     this PC's clock (s since 1970) around the exposure
    summary                            only from expose and keep: numbers from `summarise`

Errors arrive as the builtin exception the server raised: ValueError or TypeError (the request is
wrong), LookupError (no such frame), OSError with ENOSPC (the spool is full; nothing was exposed) or
EIO (the frame is kept in memory; call keep), RuntimeError (all else, in words for the user).
"""

PROTOCOL = 5  # increased when control PCs and instrument PCs must be updated together
MAX_FETCH = 1 << 20  # bytes of an answer; larger ones are slower (1 MB: 2 GB/s, 16 MB: 0.5 GB/s)
THUMBNAIL = 64  # numbers in a thumbnail, whatever the frame; an image has them in 8 rows of 8
