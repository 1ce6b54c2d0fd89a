"""Prepared answers of an accelerator, and what an operation makes of them."""

from fpga.driver import (
    Answer,
)
from hw.program.bits import encode
from hw.program.protocol import (
    ErrorCode,
    Reply,
    ReplyHeader,
)


def answer(reply: Reply, payload: list[int], code: ErrorCode = ErrorCode.NONE) -> Answer:
    """A reply, through its words."""
    return Answer.from_words([*encode(ReplyHeader, reply=reply, code=code, length=len(payload)), *payload])


def outcome(operation, answers: list[Answer]):
    """Runs an operation against prepared answers; returns its outcome and what it asked."""
    asked = []
    answers = list(answers)
    try:
        transaction = next(operation)
        while True:
            asked.append(transaction)
            transaction = operation.send([answers.pop(0) for _ in range(transaction.replies)])
    except StopIteration as finished:
        assert not answers, "answers that nobody waited for"
        return finished.value, asked
