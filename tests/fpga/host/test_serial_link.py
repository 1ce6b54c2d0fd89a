"""The link on a pseudo-terminal and on a board that is played; test_session.py has what goes wrong."""

import os
import threading
import tty
from contextlib import suppress

import numpy as np
import pytest

from fpga.driver import Transaction, identity
from fpga.host.serial_link import LinkError, PortLostError, SerialLink, open_port
from hw.program.bits import encode
from hw.program.protocol import PROTOCOL_VERSION, ErrorCode, Reply, ReplyHeader

BAUD = 115_200


@pytest.fixture
def terminal():
    """Both ends of a pseudo-terminal: a descriptor and a name."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    os.close(slave)
    yield master, name
    with suppress(OSError):
        os.close(master)


def reply(kind, payload):
    words = [*encode(ReplyHeader, reply=kind, code=ErrorCode.NONE, length=len(payload)), *payload]
    return np.array(words, "<u4").tobytes()


def test_words_go_out_and_replies_come_in_over_a_terminal(terminal):
    master, name = terminal
    link = SerialLink(open_port(name, BAUD), baud=BAUD, patience=20)
    link.restart()
    words = list(range(3000))
    received = bytearray()

    def board():
        while len(received) < 12_000:
            received.extend(os.read(master, 5000))
        os.write(master, reply(Reply.INFO, [PROTOCOL_VERSION, 0xFFFF_FFFF]))

    def operation():
        answers = yield Transaction(words[:2000], 0)
        assert answers == []
        (answer,) = yield Transaction(words[2000:], 1)
        return answer.payload

    thread = threading.Thread(target=board)
    thread.start()
    assert link.perform(operation()) == [PROTOCOL_VERSION, 0xFFFF_FFFF]
    thread.join()
    assert np.frombuffer(received, "<u4").tolist() == words
    link.close()


def test_a_terminal_that_says_nothing_and_one_that_is_gone(terminal):
    master, name = terminal
    link = SerialLink(open_port(name, BAUD), baud=BAUD, patience=0.05)
    with pytest.raises(LinkError, match=r"^the board must answer within 0\.05 s, and says nothing$"):
        link.perform(identity())
    os.close(master)
    with pytest.raises(PortLostError, match=r"^the port was lost: "):
        link.perform(identity())
    with pytest.raises(PortLostError, match=r"^the port was lost: "):
        link.restart()
    link.close()
    with pytest.raises(LinkError, match=rf"^{name}: the port must be there, and free: "):
        open_port(name, BAUD)


def test_a_port_has_one_user(terminal):
    _, name = terminal
    port = open_port(name, BAUD)
    with pytest.raises(LinkError, match=rf"^{name}: the port must be there, and free: "):
        open_port(name, BAUD)
    port.close()
    open_port(name, BAUD).close()
