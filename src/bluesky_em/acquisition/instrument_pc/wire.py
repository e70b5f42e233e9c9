"""One connection between control PC and instrument PC, and what may come over it.

Python 3.7 syntax, and nothing but Pyro5 and msgpack: both ends use it.

Why Pyro's own connection does not do: it takes messages of a gigabyte, compressed ones, objects
that are made from dictionaries, and four serializers, `marshal` among them. Here a message is
uncompressed msgpack of a bearable size, and is looked at before any of it is made into objects.
"""

import msgpack
from Pyro5 import protocol, serializers, socketutil
from Pyro5.errors import ProtocolError

LARGEST = 32 << 20  # bytes of a message; answers have 1 MB, a list of 500 000 references has 25
MSGPACK = serializers.MsgpackSerializer.serializer_id

_HEADER = 40  # bytes
_FLAGS = protocol.FLAGS_EXCEPTION | protocol.FLAGS_CORR_ID
_NUMBER = 0x31  # msgpack type in which Pyro sends NumPy's integers, as digits
_DIGITS = 40


class Wire(socketutil.SocketConnection):
    """A connected socket that lets only harmless messages through."""

    largest = LARGEST

    def send(self, data):
        """Send all of a message."""
        # A view, since Pyro copies what is left to send after each part of it.
        super(Wire, self).send(memoryview(data))  # type: ignore

    def receive(self):
        """Take the next message.

        Raises:
            ProtocolError: it may not pass; the message says why.
            CommunicationError: the other side has hung up, or is silent for too long.
        """
        header, message, payload = self.take()
        message.add_payload(payload)
        return message

    def take(self):
        """Take the next message as header, what the header says, and payload; as `receive`."""
        header = self.exactly(_HEADER)
        message = protocol.ReceivingMessage(header)
        self._check(message)
        return header, message, self.exactly(message.data_size)

    def exactly(self, size):
        """Take so many bytes."""
        return socketutil.receive_data(self.sock, size)

    def _check(self, message):
        size = message.data_size + message.annotations_size
        if size > self.largest:
            raise ProtocolError(
                "a message of {} bytes is announced, at most {} are taken".format(
                    size, self.largest
                )
            )
        if message.annotations_size or message.flags & ~_FLAGS:
            raise ProtocolError(
                "only plain calls are taken: nothing compressed (PYRO_COMPRESSION), batched, "
                "one-way, kept serialized or annotated"
            )
        if message.type != protocol.MSG_PING and message.serializer_id != MSGPACK:
            raise ProtocolError(
                "only the serializer msgpack is taken: set proxy._pyroSerializer = 'msgpack'"
            )


def check_plain(payload, **limits):
    """Refuse anything but numbers, text, bytes, lists and dictionaries.

    Raises:
        ProtocolError: with what there is instead.
    """
    try:
        msgpack.unpackb(payload, raw=False, object_hook=_no_object, ext_hook=number, **limits)
    except Exception as exc:  # msgpack's errors have no common root
        raise ProtocolError("the message is no plain msgpack data: {}".format(exc)) from exc


def number(code, data):
    """Read the one msgpack extension that is taken, an integer in digits.

    Raises:
        ValueError: it is another one.
    """
    if code != _NUMBER or len(data) > _DIGITS:
        raise ValueError("it has an extension of type {:#x} and {} bytes".format(code, len(data)))
    return int(data)


def _no_object(data):
    if "__class__" in data:
        raise ValueError("it asks for an object of class {!r:.80}".format(data["__class__"]))
    return data
