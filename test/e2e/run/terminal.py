"""Runs a command on a terminal of its own: its keyboard is this program's input, its screen this program's output.

Prints "pid N" to stderr first, and exits as the command does (128 + n for a signal). When the input ends, the terminal
hangs up. Takes the columns, then the command.
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios

columns, command = int(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.execvp(command[0], command)

os.write(2, b"pid %d\n" % pid)
keyboard, is_up = 0, True
while is_up:
    ready, _, _ = select.select([terminal] + ([keyboard] if keyboard is not None else []), [], [])
    if terminal in ready:
        try:
            shown = os.read(terminal, 65536)
        except OSError:
            shown = b""
        if shown:
            os.write(1, shown)
        else:
            is_up = False
    elif keyboard in ready:
        keys = os.read(keyboard, 4096)
        if keys:
            os.write(terminal, keys)
        else:
            keyboard = None
            os.close(terminal)
            is_up = False
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
