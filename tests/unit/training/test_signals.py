import signal
import subprocess
import sys
import threading

import pytest

from query2label.training.signals import RunInterruptedError, StopRequest, stop_on_signals

NOTED = """
import os
import signal
import sys

from query2label.training.signals import stop_on_signals

number = signal.Signals(int(sys.argv[1]))
before = signal.getsignal(number)
with stop_on_signals() as stop:
    assert stop.signal_number == 0
    os.kill(os.getpid(), number)
    assert stop.signal_number == number
assert signal.getsignal(number) is before
print("noted", number.name)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_on_signals__notes_the_signal_and_restores_the_handlers(number):
    # In a process of its own: what other tests have loaded has threads and handlers, and a signal that is
    # not caught ends whatever it is sent to.
    done = subprocess.run(
        [sys.executable, "-c", NOTED, str(int(number))], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"noted {number.name}\n", done.stderr


def test_stop_request__a_second_ctrl_c_interrupts_at_once():
    stop = StopRequest()
    stop.ask(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stop.ask(signal.SIGINT)


def test_stop_on_signals__does_nothing_outside_the_main_thread():
    found = []

    def work():
        with stop_on_signals() as stop:
            found.append(stop.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def test_run_interrupted_error__carries_the_exit_code():
    assert RunInterruptedError("saved", signal_number=signal.SIGTERM).exit_code == 143
