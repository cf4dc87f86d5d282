"""Stops a process at every system call by which it changes the world, in the order in which its threads make them.

A fork of this process runs a body under ptrace. A seccomp filter lets everything pass but the calls listed here, so
that a life costs a few hundred stops and no more; at each the tracer may look around, or kill. The count runs over all
threads and all kinds of calls: point N is the N-th change, and killing at 1, 2, 3 … until a life ends by itself leaves
none out. (strace counts per call and per thread, and its `--seccomp-bpf` disables the kill.)

The process that forks must have a single thread.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn


class Rule(Enum):
    """When a call counts as a change."""

    ALWAYS = "always"
    FILE = "file"
    """On any descriptor but the standard streams: what a log says changes nothing."""
    MESSAGE = "message"
    """More than one byte: event loops wake themselves with one."""
    OPEN = "open"
    """Only if it may make a file or empty one."""


CREATING = os.O_CREAT | os.O_TRUNC

CALLS: Mapping[str, Mapping[str, tuple[int, Rule]]] = {
    "x86_64": {
        "write": (1, Rule.FILE),
        "pwrite64": (18, Rule.FILE),
        "writev": (20, Rule.FILE),
        "sendfile": (40, Rule.ALWAYS),
        "sendto": (44, Rule.MESSAGE),
        "sendmsg": (46, Rule.ALWAYS),
        "fsync": (74, Rule.ALWAYS),
        "fdatasync": (75, Rule.ALWAYS),
        "ftruncate": (77, Rule.ALWAYS),
        "rename": (82, Rule.ALWAYS),
        "mkdir": (83, Rule.ALWAYS),
        "link": (86, Rule.ALWAYS),
        "unlink": (87, Rule.ALWAYS),
        "openat": (257, Rule.OPEN),
        "mkdirat": (258, Rule.ALWAYS),
        "unlinkat": (263, Rule.ALWAYS),
        "renameat": (264, Rule.ALWAYS),
        "linkat": (265, Rule.ALWAYS),
        "fallocate": (285, Rule.ALWAYS),
        "syncfs": (306, Rule.ALWAYS),
        "renameat2": (316, Rule.ALWAYS),
        "copy_file_range": (326, Rule.ALWAYS),
    },
    "aarch64": {
        "mkdirat": (34, Rule.ALWAYS),
        "unlinkat": (35, Rule.ALWAYS),
        "linkat": (37, Rule.ALWAYS),
        "renameat": (38, Rule.ALWAYS),
        "ftruncate": (46, Rule.ALWAYS),
        "fallocate": (47, Rule.ALWAYS),
        "openat": (56, Rule.OPEN),
        "write": (64, Rule.FILE),
        "writev": (66, Rule.FILE),
        "pwrite64": (68, Rule.FILE),
        "sendfile": (71, Rule.ALWAYS),
        "fsync": (82, Rule.ALWAYS),
        "fdatasync": (83, Rule.ALWAYS),
        "sendto": (206, Rule.MESSAGE),
        "sendmsg": (211, Rule.ALWAYS),
        "syncfs": (267, Rule.ALWAYS),
        "renameat2": (276, Rule.ALWAYS),
        "copy_file_range": (285, Rule.ALWAYS),
    },
}
"""By the kernel's tables of system calls."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_TRACEME, _CONT, _SETOPTIONS, _SYSCALL_INFO = 0, 7, 0x4200, 0x420E
_OPTION_CLONE, _OPTION_SECCOMP, _OPTION_EXITKILL = 0x8, 0x80, 0x100000
_EVENT_SECCOMP = 7
_WALL = 0x40000000
_LOAD, _IF_EQUAL, _IF_GREATER, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_PATH_BYTES_MAX = 512

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


class _CallInfo(ctypes.Structure):
    _fields_ = (
        ("operation", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("architecture", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
        ("filter_data", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A change that is about to be made."""

    number: int
    """From 1."""
    thread: int

    def describe(self) -> str:
        """Return the call and the file that it is about."""
        info = _CallInfo()
        size = _ptrace(_SYSCALL_INFO, self.thread, ctypes.sizeof(info), ctypes.addressof(info))
        names = {number: name for name, (number, _) in CALLS[platform.machine()].items()}
        name = names.get(info.number, str(info.number)) if size > 0 else "?"
        return f"{name} {self._files(name, info)}"

    def _files(self, name: str, info: _CallInfo) -> str:
        arguments = [*info.arguments]
        if name.startswith(("rename", "link")) and name.endswith(("at", "at2")):
            return f"{self._path(arguments[0], arguments[1])} -> {self._path(arguments[2], arguments[3])}"
        if name.endswith("at"):
            return self._path(arguments[0], arguments[1])
        if name in {"rename", "mkdir", "unlink", "link"}:
            return self._text(arguments[0])
        return self._open_file(arguments[0])

    def _path(self, folder: int, name: int) -> str:
        text = self._text(name)
        return text if text.startswith("/") else f"{self._open_file(folder)}/{text}"

    def _open_file(self, descriptor: int) -> str:
        try:
            return os.readlink(f"/proc/{self.thread}/fd/{descriptor & 0xFFFFFFFF}")
        except OSError:
            return "?"

    def _text(self, address: int) -> str:
        try:
            with open(f"/proc/{self.thread}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                return os.fsdecode(memory.read(_PATH_BYTES_MAX).partition(b"\0")[0])
        except OSError:
            return "?"


def hindrance() -> str | None:
    """Say why nothing can be traced here, or None if it can."""
    if not sys.platform.startswith("linux") or platform.machine() not in CALLS:
        return f"no table of system calls for {platform.system()} on {platform.machine()}"
    read, write = os.pipe()
    try:
        seen: list[str] = []

        def see(point: Point) -> bool:
            seen.append(point.describe())
            return False

        trace(lambda: min(0, os.write(write, b"x")), see)
    except OSError as error:
        return f"this process may not trace its own child: {error}"
    finally:
        os.close(read)
        os.close(write)
    return None if seen else "the tracer sees nothing of its child"


def hindrance_in_a_process_of_its_own() -> str | None:
    """Ask for the hindrance where there is one thread, whatever there is here."""
    command = [sys.executable, "-m", __name__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout.strip() or None


def trace(body: Callable[[], int | None], at: Callable[[Point], bool]) -> int:
    """Run the body in a fork; kill it before the first change for which `at` says so. Return how it ended.

    A return value of 0 or above is the exit code (what the body returned, 1 if it raised); -9 is the kill.
    """
    child = os.fork()
    if child == 0:
        _live(body)
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, 0, _OPTION_CLONE | _OPTION_SECCOMP | _OPTION_EXITKILL)
    _ptrace(_CONT, child, 0, 0)
    number = 0
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            if thread == child:
                return os.waitstatus_to_exitcode(status)
            continue
        if status >> 16 == _EVENT_SECCOMP:
            number += 1
            if at(Point(number=number, thread=thread)):
                os.kill(child, signal.SIGKILL)
        _go_on(thread, status)


def _go_on(thread: int, status: int) -> None:
    """Let a stopped thread go on, with the signal that it was stopped by unless that was the tracer's own doing."""
    number = os.WSTOPSIG(status)
    passed_on = 0 if status >> 16 or number in {signal.SIGSTOP, signal.SIGTRAP} else number
    if _libc.ptrace(_CONT, thread, 0, passed_on) < 0 and ctypes.get_errno() != 3:  # ESRCH: killed a moment ago
        raise OSError(ctypes.get_errno(), "ptrace")


def _live(body: Callable[[], int | None]) -> NoReturn:
    code = 1
    try:
        sys.dont_write_bytecode = True
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _filter_calls()
        code = body() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it was: a fork must not go on with its parent's work
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _filter_calls() -> None:
    """Ask the kernel to stop this thread, and those that it starts, at the calls that count."""
    code = [_Instruction(_LOAD, 0, 0, 0)]
    for number, rule in CALLS[platform.machine()].values():
        block = _block(rule)
        code += [_Instruction(_IF_EQUAL, 0, len(block), number), *block]
    code.append(_Instruction(_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(code))(*code)
    program = _Program(len(code), instructions)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if _libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def _block(rule: Rule) -> list[_Instruction]:
    """Return what decides about one call. A block ends with a return, so that the next may trust the accumulator."""
    trace_it, allow = _Instruction(_RETURN, 0, 0, _TRACE), _Instruction(_RETURN, 0, 0, _ALLOW)
    match rule:
        case Rule.ALWAYS:
            return [trace_it]
        case Rule.FILE:
            return [_argument(0), _Instruction(_IF_GREATER, 0, 1, 2), trace_it, allow]
        case Rule.MESSAGE:
            return [_argument(2), _Instruction(_IF_GREATER, 0, 1, 1), trace_it, allow]
        case Rule.OPEN:
            return [_argument(2), _Instruction(_IF_ANY_BIT, 0, 1, CREATING), trace_it, allow]


def _argument(index: int) -> _Instruction:
    return _Instruction(_LOAD, 0, 0, 16 + 8 * index)  # the lower half: both machines are little-endian


def _ptrace(request: int, thread: int, address: int, data: int) -> int:
    result: int = _libc.ptrace(request, thread, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return result


if __name__ == "__main__":
    sys.stdout.write(hindrance() or "")
