import math
import re
import struct
import sys
import zlib


def expect(name, expected, actual):
    if expected != actual:
        print(f"{name}: expected {expected!r}, got {actual!r}")
        sys.exit(1)


expect("integers", 93326215443944152681, math.factorial(100) // 10**138)
expect("power", 1, pow(3, 10**9 + 6, 10**9 + 7))
expect("floats", "3.3000000000000003", repr(1.1 * 3))
expect("square root", "1.4142135623730951", repr(math.sqrt(2)))
expect("division", (-4, 1), divmod(-7, 2))
expect("single precision", 0x3DCCCCCD, struct.unpack("<I", struct.pack("<f", 0.1))[0])
expect("rounding", ["0", "2", "2", "4"], [f"{x:.0f}" for x in (0.5, 1.5, 2.5, 3.5)])
expect("regular expression", ["10", "200"], re.findall(r"\d{2,}", "1 10 x200"))
expect("checksum", 0xCBF43926, zlib.crc32(b"123456789"))
expect("compression", b"lockstep " * 100, zlib.decompress(zlib.compress(b"lockstep " * 100)))
sieve = bytearray([1]) * 2000
for i in range(2, 45):
    if sieve[i]:
        sieve[i * i :: i] = bytes(len(range(i * i, 2000, i)))
expect("sieve", 303, sum(sieve[2:]))
words = {str(i): i * i for i in range(500)}
expect("dictionary", 41541750, sum(words.values()))
try:
    1 // 0
    expect("exception", True, False)
except ZeroDivisionError:
    pass
print("ok")
