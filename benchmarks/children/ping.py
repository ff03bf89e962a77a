"""Answers every message on standard input by so many bytes, as fast as Python can."""

import os
import sys

answer = bytes(int(sys.argv[1]))
while os.read(0, 1 << 16):
    os.write(1, answer)
