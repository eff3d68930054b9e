"""Text to compare tokenizers on, made from numbers: tests/engine/text/corpus.cc makes the same.

A piece is a number. Its kind is the number modulo 10; all else comes from SplitMix64 seeded with it. The material
(words, code, ranges of characters, spaces) stands in tests/engine/text/goldens/corpus.json.
"""
import json

PIECE_BYTES = 12500
MASK = (1 << 64) - 1


class Random:
    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def one_of(self, items):
        return items[self.below(len(items))]


def fnv(values):
    h = 0xCBF29CE484222325
    for value in values:
        h = ((h ^ value) * 0x100000001B3) & MASK
    return h


class Corpus:
    def __init__(self, material, token_bytes, added):
        """`token_bytes`: the bytes of every token by id; `added`: the texts of added tokens."""
        with open(material, encoding="utf-8") as file:
            self.material = json.load(file)
        self.token_bytes, self.added = token_bytes, added

    def character(self, random, ranges):
        first, last = random.one_of(self.material[ranges])
        return chr(first + random.below(last - first + 1)).encode()

    def word(self, random):
        return random.one_of(self.material["words"]).encode()

    def space(self, random):
        return random.one_of(self.material["spaces"]).encode()

    def part(self, kind, random):
        if kind == 0:
            return self.token_bytes[random.below(len(self.token_bytes))]
        if kind == 1:
            first, last = random.one_of(self.material["scripts"])
            letters = [chr(first + random.below(last - first + 1)) for _ in range(1 + random.below(8))]
            return "".join(letters).encode() + (b"\n" if random.below(16) == 0 else b" ")
        if kind == 2:
            return random.one_of(self.material["code"]).encode()
        if kind == 3:
            number = str(random.below(1000000)).encode() if random.below(8) == 0 else b""
            return self.word(random) + number + random.one_of(self.material["marks"]).encode()
        if kind == 4:
            return self.character(random, "emoji")
        if kind == 5:
            return self.character(random, "combining")
        if kind == 6:
            return self.space(random) * (1 + random.below(4)) + (self.word(random) if random.below(3) == 0 else b"")
        if kind == 7:
            one = self.character(random, "runs") if random.below(2) else self.space(random)
            return one * (1 + random.below(3000))
        if kind == 8:
            return bytes([random.below(256)])
        text = random.one_of(self.added).encode()
        before = self.space(random) if random.below(2) else b""
        after = self.space(random) if random.below(2) else b""
        return before + text + after + (self.word(random) if random.below(2) else b"")

    def piece(self, number):
        """The bytes, made valid UTF-8."""
        random, kind = Random(number), number % 10
        made = bytearray()
        while len(made) < PIECE_BYTES:
            made += self.part(kind, random)
        return bytes(made).decode("utf-8", "replace").encode()
