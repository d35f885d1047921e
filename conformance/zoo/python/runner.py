"""Runs the cases of a program, and prints a line for each."""

import sys
import threading
import time
import traceback

import grpc


class NotYet(Exception):
    """The case is for a service that the server says it does not have."""


def main(names, waiting, stopping, only, server, connect):
    """Starts the server, runs all functions of `names` that are called `case_...` with what `connect` makes, in the order of
    the file but for those of `waiting` and `stopping` (see `run`), and ends the program."""
    cases = [case for name, case in names.items() if name.startswith("case_")]
    ordered = [case for case in cases if case not in waiting + stopping]
    server.start()
    try:
        code = run(ordered, waiting, stopping, only, connect())
    finally:
        server.stop()
    sys.exit(code)


def run(cases, waiting, stopping, only, argument):
    """Runs cases, functions named `case_...`, in this order; those of `waiting` mostly wait, so they run beside the others,
    but the first, which counts revisions; those of `stopping` stop the server. `only` may name some of them. Each
    is given `argument`. Returns the exit code."""
    counts = {True: 0, False: 0}

    def name_of(case):
        return case.__name__.removeprefix("case_").replace("_", " ")

    def one(case):
        name, begun = name_of(case), time.monotonic()
        try:
            case(argument)
        except NotYet as lack:
            print(f"not yet {name}: {lack}", flush=True)
            return
        except grpc.RpcError as error:
            why = f"unexpected {error.code()}: {error.details()}"
        except Exception as error:
            why = str(error) or repr(error)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        else:
            why = None
        line = f"ok {name}" if why is None else f"FAIL {name}: {why}".replace("\n", " ")
        print(line, flush=True)
        print(f"{name}: {time.monotonic() - begun:.2f} s", file=sys.stderr)
        counts[why is None] += 1

    def wanted(some):
        return [case for case in some if not only or name_of(case) in only]

    beside = [threading.Thread(target=one, args=(case,)) for case in wanted(waiting)]
    ordered = wanted(cases)
    for case in ordered[:1]:
        one(case)
    for thread in beside:
        thread.start()
    for case in ordered[1:]:
        one(case)
    for thread in beside:
        thread.join()
    for case in wanted(stopping):
        one(case)
    print(f"{counts[True]} passed, {counts[False]} failed", flush=True)
    return 1 if counts[False] else 0
