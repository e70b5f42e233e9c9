"""The connection between control PC and instrument PC, and the checks of its messages.

Python 3.7 syntax, and nothing but Pyro5 and msgpack: both ends use it.

Why Pyro's own connection is not enough: it accepts messages of a gigabyte, compressed ones, objects
created from dictionaries, and four serializers, `marshal` among them. Here a message is
uncompressed msgpack of limited size, and is checked before any object is created from it.
"""

import msgpack
from Pyro5 import protocol, serializers, socketutil
from Pyro5.errors import ProtocolError

MAX_MESSAGE = 32 << 20  # bytes; an answer has 1 MB, a list of 500 000 references 25 MB
MSGPACK = serializers.MsgpackSerializer.serializer_id

_HEADER_BYTES = 40
_FLAGS = protocol.FLAGS_EXCEPTION | protocol.FLAGS_CORR_ID
_INTEGER = 0x31  # msgpack extension in which Pyro sends NumPy's integers, as digits
_DIGITS_LIMIT = 40


class Wire(socketutil.SocketConnection):
    """A connected socket that accepts harmless messages only."""

    largest = MAX_MESSAGE
    """Bytes of a message that are accepted."""

    def send(self, data):
        """Send a whole message."""
        # A view, since Pyro copies what is left to send after each part of it.
        super(Wire, self).send(memoryview(data))  # type: ignore

    def receive(self):
        """Receive the next message.

        Raises:
            ProtocolError: it is not accepted; the error says why.
            CommunicationError: the other side closed the connection, or was silent for too long.
        """
        header, message, payload = self.take()
        message.add_payload(payload)
        return message

    def take(self):
        """Receive the next message as header, parsed header, and payload; errors as `receive`."""
        header = self.exactly(_HEADER_BYTES)
        message = protocol.ReceivingMessage(header)
        self._check(message)
        return header, message, self.exactly(message.data_size)

    def exactly(self, size):
        """Receive this number of bytes."""
        return socketutil.receive_data(self.sock, size)

    def _check(self, message):
        size = message.data_size + message.annotations_size
        if size > self.largest:
            raise ProtocolError(
                "a message of {} bytes is announced, at most {} are accepted".format(
                    size, self.largest
                )
            )
        if message.annotations_size or message.flags & ~_FLAGS:
            raise ProtocolError(
                "only plain calls are accepted: nothing compressed (PYRO_COMPRESSION), batched, "
                "one-way, kept serialized or annotated"
            )
        if message.type != protocol.MSG_PING and message.serializer_id != MSGPACK:
            raise ProtocolError(
                "only the serializer msgpack is accepted: set proxy._pyroSerializer = 'msgpack'"
            )


def check_plain(payload, **limits):
    """Check that a message has only numbers, text, bytes, lists and dictionaries.

    Raises:
        ProtocolError: it has something else, which the error names.
    """
    try:
        msgpack.unpackb(payload, raw=False, object_hook=_no_object, ext_hook=number, **limits)
    except Exception as exc:  # msgpack's errors have no common root
        raise ProtocolError("the message is not plain msgpack data: {}".format(exc)) from exc


def number(code, data):
    """Return the integer in the one msgpack extension that is accepted.

    Raises:
        ValueError: it is another extension.
    """
    if code != _INTEGER or len(data) > _DIGITS_LIMIT:
        raise ValueError("it has an extension of type {:#x} and {} bytes".format(code, len(data)))
    return int(data)


def _no_object(data):
    if "__class__" in data:
        raise ValueError("it asks for an object of class {!r:.80}".format(data["__class__"]))
    return data
