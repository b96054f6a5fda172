"""Small audio files for tests: a valid head of each kind, silence, and tags by mutagen."""

import struct
import wave

from mutagen.aiff import AIFF
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import COMM, ID3, TALB, TBPM, TCON, TDRC, TIT2, TKEY, TLAN, TMOO, TPE1
from mutagen.mp4 import MP4
from mutagen.ogg import OggPage
from mutagen.oggopus import OggOpus
from mutagen.wave import WAVE

MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)  # 26 ms of silence at 128 kbit/s and 44.1 kHz
FRAMES = (TIT2, TPE1, TALB, TCON, TDRC, TBPM, TKEY, TMOO, TLAN)
NAMES = ("title", "artist", "album", "genre", "date", "bpm", "initialkey", "mood", "language")


def _id3(tags, values: dict):
    for frame, name in zip(FRAMES, NAMES, strict=True):
        if name in values:
            tags.add(frame(encoding=3, text=values[name]))
    if "comment" in values:
        tags.add(COMM(encoding=3, lang="eng", desc="iTunNORM", text="0000 0000"))
        tags.add(COMM(encoding=3, lang="eng", desc="", text=values["comment"]))


def mp3(path, **values):
    path.write_bytes(MP3_FRAME * 40)
    if values:
        tags = ID3()
        _id3(tags, values)
        tags.save(path)


def wav(path, **values):
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16_000))
    audio = WAVE(path)
    audio.add_tags()
    _id3(audio.tags, values)
    audio.save()


def aiff(path, **values):
    rate = b"\x40\x0b\xfa" + bytes(7)  # 8000 Hz as an 80-bit float
    comm = struct.pack(">4sIhIh", b"COMM", 18, 1, 8000, 16) + rate
    body = b"AIFF" + comm + struct.pack(">4sIII", b"SSND", 8 + 16_000, 0, 0) + bytes(16_000)
    path.write_bytes(b"FORM" + struct.pack(">I", len(body)) + body)
    audio = AIFF(path)
    audio.add_tags()
    _id3(audio.tags, values)
    audio.save()


def flac(path, **values):
    info = (
        struct.pack(">HH", 4096, 4096)
        + bytes(6)
        + ((44_100 << 44) | (15 << 36) | 44_100).to_bytes(8, "big")
        + bytes(16)
    )
    path.write_bytes(b"fLaC\x80" + len(info).to_bytes(3, "big") + info + bytes(100))
    audio = FLAC(path)
    audio.update(values)
    audio.save()


def opus(path, **values):
    pages = [OggPage(), OggPage(), OggPage()]
    heads = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0), b"OpusTags" + bytes(8), b"\0" * 20
    for number, (page, packet) in enumerate(zip(pages, heads, strict=True)):
        page.packets, page.sequence, page.serial, page.position = [packet], number, 1, 48_000 * (number == 2)
    pages[0].first, pages[2].last = True, True
    path.write_bytes(b"".join(page.write() for page in pages))
    audio = OggOpus(path)
    audio.update(values)
    audio.save()


def _atom(name: bytes, *inner: bytes) -> bytes:
    body = b"".join(inner)
    return struct.pack(">I", 8 + len(body)) + name + body


def m4a(path, **values):
    mdhd = _atom(b"mdhd", bytes(12), struct.pack(">II", 1000, 1000), bytes(4))
    hdlr = _atom(b"hdlr", bytes(8), b"soun", bytes(13))
    entry = _atom(b"mp4a", bytes(6), b"\0\1", bytes(8), struct.pack(">HHII", 1, 16, 0, 8000 << 16), _atom(b"free"))
    table = _atom(b"stbl", _atom(b"stsd", bytes(4), struct.pack(">I", 1), entry))
    trak = _atom(b"trak", _atom(b"mdia", mdhd, hdlr, _atom(b"minf", table)))
    path.write_bytes(_atom(b"ftyp", b"M4A \0\0\0\0") + _atom(b"moov", trak) + _atom(b"mdat", bytes(50)))
    audio = MP4(path)
    atoms = {"title": "©nam", "artist": "©ART", "album": "©alb", "genre": "©gen", "date": "©day", "comment": "©cmt"}
    for name, value in values.items():
        if name in atoms:
            audio[atoms[name]] = value
        elif name == "bpm":
            audio["tmpo"] = [int(value)]
        else:
            audio[f"----:com.apple.iTunes:{name}"] = str(value).encode()
    audio.save()


def wma(path, **values):
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    path.write_bytes(head + struct.pack("<QIBB", 30, 0, 1, 2))
    audio = ASF(path)
    names = {"title": "Title", "artist": "Author", "album": "WM/AlbumTitle", "genre": "WM/Genre", "date": "WM/Year"}
    names |= {"bpm": "WM/BeatsPerMinute", "initialkey": "WM/InitialKey", "mood": "WM/Mood", "language": "WM/Language"}
    for name, value in values.items():
        audio[names.get(name, "Description")] = value
    audio.save()


KINDS = {"mp3": mp3, "wav": wav, "aiff": aiff, "flac": flac, "opus": opus, "m4a": m4a, "wma": wma}
