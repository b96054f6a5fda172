"""Text tables: encodings, separators, quotes, headers, and one damage at a time."""

import pytest

from lib.core.errors import WorkbookError
from lib.tracks.readers import encodings
from lib.tracks.readers.opening import open_source

HEADER = ["title", "artist", "genre"]


def load(tmp_path, content: str | bytes, name="c.csv", reading=None, columns=None):
    """Return the source of a file with this content, its rows, their numbers, and the damaged rows."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_source(str(path), reading or {})
    chunks = list(source.read(columns))
    columns = [
        [value for chunk in chunks for value in chunk.table.column(i).to_pylist()] for i in range(_width(chunks))
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return source, rows, [n for c in chunks for n in c.rows.tolist()], [fault for c in chunks for fault in c.damaged]


def _width(chunks) -> int:
    return chunks[0].table.num_columns if chunks else 0


def songs(n: int, separator=",", extra="", end="\n") -> str:
    lines = [separator.join(HEADER), *(f"Song {i}{separator}Band {i}{separator}rock{extra}" for i in range(n))]
    return end.join(lines) + end


def refusal(tmp_path, content, name="c.csv", reading=None) -> str:
    """Return the message of the refusal of a file with this content."""
    with pytest.raises(WorkbookError) as error:
        load(tmp_path, content, name, reading)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- encodings ---

SONGS = {
    "French": "Déjà vu,Beyoncé\nSong 2,Band\nSong 3,Band",
    "chansons": "L'été indien,Joe Dassin\nÇa plane pour moi,Plastic Bertrand\nHélène,Roch Voisine",
    "German": "Männersache,Die Ärzte\nGrüße aus der Hölle,Die Toten Hosen\nMädchen,Lucilectric",
    "one accent": "Café del Mar,Energy 52\nBlue Monday,New Order",
    "umlaut": "Ace of Spades,Motörhead\nBlue Monday,New Order",
    "Spanish": "Mañana,Álvaro Soler\nCorazón espinado,Santana\nEl Niño,Ñengo Flow",
    "Portuguese": "Águas de Março,Elis Regina\nGarota de Ipanema,João Gilberto",
    "Icelandic": "Svefn-g-englar,Sigur Rós\nÞú ert jörðin,Ólafur Arnalds",
    "Swedish": "Dansa på min grav,Håkan Hellström\nÖppna din dörr,Tommy Nilsson",
    "curly quotes": "Don’t Stop Believin’,Journey\nCan’t Stop,Red Hot Chili Peppers",
    "mixed": "Déjà vu,Beyoncé\nAce of Spades,Motörhead\nJóga,Björk\nCorazón,Maná",
    "Polish": "Miłość,Kult\nDziwny jest ten świat,Czesław Niemen\nŻółty,Marek Grechuta",
    "Czech": "Želva,Olympic\nBláznova ukolébavka,Pavel Žalman\nPříběh,Lucie\nHolubí dům,Jiří Schelinger",
    "Hungarian": "Gyöngyhajú lány,Omega\nŐszi eső,Zorán\nTavaszi szél vizet áraszt,Népdal",
    "Romanian": "Mică ţigănuşă,Fără Zahăr\nPână când,Voltaj",
    "Croatian": "Lijepa naša,Thompson\nNe plači,Đorđe Balašević\nČaša vina,Prljavo kazalište",
    "Russian": "Группа крови,Кино\nЧто такое осень,ДДТ\nПрогулки по воде,Наутилус Помпилиус",
    "one Russian": "Звезда по имени Солнце,Кино\nBlue Monday,New Order",
    "Ukrainian": "Обійми,Океан Ельзи\nЩедрик,Леонтович\nЇхали козаки,Хор",
    "Bulgarian": "Облаче ле бяло,Емил Димитров\nЕдна българска роза,Паша Христова",
    "Greek": "Χάρτινο το φεγγαράκι,Μάνος Χατζιδάκις\nΖορμπάς,Μίκης",
    "Turkish": "Şımarık,Tarkan\nGülpembe,Barış Manço\nAşk,Sezen Aksu",
    "Hebrew": "ירושלים של זהב,נעמי שמר\nחי,עופרה חזה",
    "Arabic": "انت عمري,ام كلثوم\nحبيبي يا نور العين,عمرو دياب",
    "Lithuanian": "Ąžuolai žali,Foje\nŠiaurės vėjas,Andrius Mamontovas",
    "Latvian": "Dziesma par prieku,Prāta Vētra\nMārtiņš,Līvi",
    "Japanese": "残酷な天使のテーゼ,高橋洋子\nさくら,森山直太朗\n上を向いて歩こう,坂本九",
    "katakana": "プラスティック・ラブ,竹内まりや\nLemon,米津玄師",
    "Chinese": "月亮代表我的心,邓丽君\n晴天,周杰伦\n后来,刘若英",
    "one Chinese": "七里香,周杰伦\nLove,Band",
    "Taiwan": "月亮代表我的心,鄧麗君\n晴天,周杰倫\n愛如潮水,張信哲",
    "Korean": "강남스타일,싸이\n봄날,방탄소년단\n밤편지,아이유",
}
LATIN = ("French", "chansons", "German", "one accent", "umlaut", "Spanish", "Portuguese", "Swedish", "mixed")
CASES = [(name, codec) for name in (*LATIN, "curly quotes") for codec in ("cp1252", "mac_roman")]
CASES += [(name, "cp1250") for name in ("Polish", "Czech", "Hungarian", "Romanian", "Croatian")]
CASES += [("Icelandic", "cp1252"), ("Czech", "iso8859_2"), ("German", "cp850"), ("Ukrainian", "cp1251")]
CASES += [(name, codec) for name in ("Russian", "one Russian") for codec in ("cp1251", "koi8_r", "cp866")]
CASES += [("Bulgarian", "cp1251"), ("Greek", "cp1253"), ("Greek", "iso8859_7"), ("Turkish", "cp1254")]
CASES += [("Hebrew", "cp1255"), ("Arabic", "cp1256"), ("Lithuanian", "cp1257"), ("Latvian", "cp1257")]
CASES += [(name, codec) for name in ("Japanese", "katakana") for codec in ("cp932", "euc_jp")]
CASES += [("Chinese", "gb18030"), ("one Chinese", "gb18030"), ("Taiwan", "big5"), ("Korean", "cp949")]
CASES += [(name, codec) for name in ("French", "Japanese") for codec in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")]
CASES += [("Japanese", "utf-16-be")]


@pytest.mark.parametrize(("name", "codec"), CASES, ids="-".join)
def test_the_letters_of_each_encoding_come_out_right(tmp_path, name, codec):
    source, rows, _, damaged = load(tmp_path, f"title,artist\n{SONGS[name]}\n".encode(codec))
    assert source.columns == ["title", "artist"]
    assert rows == [line.split(",") for line in SONGS[name].split("\n")]
    assert not damaged


def test_the_encoding_is_named(tmp_path):
    source, *_ = load(tmp_path, f"title,artist\n{SONGS['Russian']}\n".encode("cp1251"))
    assert source.facts["encoding"] == "Windows-1251 (Cyrillic), by its letters"


def test_an_encoding_may_be_named_by_the_user(tmp_path):
    source, rows, *_ = load(tmp_path, "title,artist\nŽal,Á\n".encode("cp1250"), reading={"encoding": "cp1250"})
    assert rows == [["Žal", "Á"]] and "named" in source.facts["encoding"]
    assert "'cp9999' is unknown" in refusal(tmp_path, songs(3), reading={"encoding": "cp9999"})


def test_letters_far_down_decide_the_encoding(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes((songs(100_000) + "Déjà vu,Beyoncé,pop\n").encode("cp1252"))
    assert encodings.find(path)[0] == "cp1252"


def test_a_few_broken_bytes_damage_only_their_rows(tmp_path):
    text = songs(5000).replace("Band", "Bänd").encode()
    lines = text.split(b"\n")
    lines[4001] = b"Don\x92t,Band,rock"
    source, rows, numbers, damaged = load(tmp_path, b"\n".join(lines))
    assert source.facts["encoding"] == "UTF-8" and len(rows) == 4999 and 4001 not in numbers
    assert damaged == [(4001, "line 4002 has the byte 0x92, which is not UTF-8")]


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
        b"%PDF-1.7\n1 0 obj\n",
        b"\x80\x04\x95\x10\0\0\0",
        b"a,b\n1,\0\n" * 9,
    ],
    ids=["PNG", "PDF", "pickle", "NUL"],
)
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    message = refusal(tmp_path, content)
    assert "not a table" in message and "CSV in UTF-8" in message


# --- separators and quotes ---


@pytest.mark.parametrize(("separator", "name"), [(",", "c.tsv"), (";", "c.csv"), ("\t", "c.csv"), ("|", "c.txt")])
def test_separators_are_found_whatever_the_ending(tmp_path, separator, name):
    source, rows, *_ = load(tmp_path, songs(20, separator, end="\r\n"), name)
    assert source.columns == HEADER and rows[19] == ["Song 19", "Band 19", "rock"]


def test_a_separator_of_several_letters(tmp_path):
    _, rows, *_ = load(tmp_path, songs(20, "<SEP>"))
    assert rows[19] == ["Song 19", "Band 19", "rock"]


def test_decimal_commas_do_not_separate(tmp_path):
    text = "Titel;Energie;Valenz\n" + "".join(f"Lied {i}, Teil 2;0,{i};0,5\n" for i in range(9))
    assert load(tmp_path, text)[1][3] == ["Lied 3, Teil 2", "0,3", "0,5"]


def test_excel_names_its_separator(tmp_path):
    source, rows, *_ = load(tmp_path, "sep=;\ntitle;artist\nA, b;C\n")
    assert source.columns == ["title", "artist"] and rows == [["A, b", "C"]]


def test_the_user_names_separator_and_quote(tmp_path):
    source, rows, *_ = load(tmp_path, 'a:b\n"x:y"\n', reading={"separator": ":", "quote": "none"})
    assert source.columns == ["a", "b"] and rows == [['"x', 'y"']]
    assert "one letter" in refusal(tmp_path, songs(3), reading={"separator": "comma and blank"})


def test_one_column_is_a_list_of_titles(tmp_path):
    source, rows, *_ = load(tmp_path, "title\nHello, Goodbye\nYesterday\nHelp!\nHey Jude\n", "c.txt")
    assert source.columns == ["title"] and rows[0] == ["Hello, Goodbye"] and len(rows) == 4
    source, rows, *_ = load(tmp_path, "Hey Jude\nYesterday\nHelp!\n", "c.txt")
    assert source.columns == ["column1"] and len(rows) == 3


def test_doubled_quotes_and_line_breaks_inside_quotes(tmp_path):
    text = 'title,artist\n"Say ""hi"", now",A\n"Two\nlines, here",B\n"",C\n'
    assert load(tmp_path, text)[1] == [['Say "hi", now', "A"], ["Two\nlines, here", "B"], [None, "C"]]


def test_backslashes_escape_quotes(tmp_path):
    text = 'title,artist\n"Say \\"hi\\", now","A"\n"Plain","B"\n"\\N","C"\n'
    assert load(tmp_path, text)[1] == [['Say "hi", now', "A"], ["Plain", "B"], ["\\N", "C"]]


def test_single_quotes(tmp_path):
    text = "'title','artist'\n" + "'Hello, Goodbye','The B''s'\n" * 5
    source, rows, *_ = load(tmp_path, text)
    assert source.columns == ["title", "artist"] and rows[0] == ["Hello, Goodbye", "The B's"]


def test_quotes_that_are_letters(tmp_path):
    lines = [f"{i}\tSong {i}\tBand" for i in range(60)]
    lines[5], lines[9], lines[20] = '5\t"Heroes" (live)\tBand', '9\t"Song 9\tBand', '20\t12" Mix\tBand'
    source, rows, *_ = load(tmp_path, "id\ttitle\tartist\n" + "\n".join(lines) + "\n")
    assert len(rows) == 60 and rows[5][1] == '"Heroes" (live)' and rows[9][1] == '"Song 9' and rows[20][1] == '12" Mix'
    assert source.facts["quotes"] == "none"


@pytest.mark.parametrize("closing", ["", '31,"Song 31,Band 31,rock'], ids=["to the end", "to the next"])
def test_a_stray_quote_swallows_no_rows(tmp_path, closing):
    lines = songs(60).splitlines()
    lines[3] = '"Song, 2",Band 2,rock'
    lines[11] = '"Song 10,Band 10,rock'
    lines[32] = closing.replace("31,", "", 1) or lines[32]
    _, rows, numbers, damaged = load(tmp_path, "\n".join(lines))
    assert numbers == list(range(1, 61)) and not damaged
    assert rows[2][0] == "Song, 2" and rows[10][0] == '"Song 10' and rows[59] == ["Song 59", "Band 59", "rock"]


def test_a_stray_quote_costs_no_rows_of_a_large_file(tmp_path):
    lines = songs(9000).splitlines()
    lines[3], lines[1999], lines[2000] = '"Song, 2",Band,rock', '"Song 1998,Band,rock', '"Two\nlines",Band,rock'
    _, rows, numbers, damaged = load(tmp_path, "\n".join(lines))
    assert len(rows) == 9000 and not damaged and rows[1999][0] == "Two\nlines" and numbers[-1] == 9000


def test_long_texts_with_line_breaks(tmp_path):
    lyrics = "\n".join("la la" if k % 2 else f"line {k}, oh, yeah" for k in range(30))
    text = "title,artist,lyrics\n" + "".join(f'Song {i},Band,"{lyrics}"\n' for i in range(200))
    _, rows, _, damaged = load(tmp_path, text)
    assert rows == [[f"Song {i}", "Band", lyrics] for i in range(200)] and not damaged


def test_a_return_after_a_text_with_line_breaks(tmp_path):
    _, rows, *_ = load(tmp_path, songs(20) + '"Two\nlines",Ba\rnd,rock\n')
    assert rows[20] == ["Two\nlines", "Ba nd", "rock"]


# --- widths ---


def test_rows_of_another_width_are_damaged(tmp_path):
    lines = songs(60).splitlines()
    lines[8], lines[20] = "Song 7, Part 2,Band,rock", "Song 19,Band"
    _, rows, numbers, damaged = load(tmp_path, "\n".join(lines))
    assert len(rows) == 58 and numbers[7] == 9
    assert damaged == [
        (8, "4 values, the header has 3: Song 7, Part 2,Band,rock"),
        (20, "2 values, the header has 3: Song 19,Band"),
    ]


def test_a_long_damaged_row_is_cut(tmp_path):
    _, _, _, damaged = load(tmp_path, songs(30) + "x" * 500 + "\n")
    assert damaged[0][1].endswith("x" * 80 + "…")


def test_row_names_as_r_writes_them(tmp_path):
    lines = songs(20).splitlines()
    text = "\n".join([lines[0], *(f'"{i}",{line}' for i, line in enumerate(lines[1:], 1))])
    source, rows, *_ = load(tmp_path, text)
    assert source.columns == ["row names", *HEADER] and rows[0] == ["1", "Song 0", "Band 0", "rock"]


def test_a_separator_at_the_end_of_each_row_is_dropped(tmp_path):
    source, rows, *_ = load(tmp_path, songs(20, extra=","))
    assert source.columns == HEADER and rows[0] == ["Song 0", "Band 0", "rock"]


def test_a_header_that_fits_no_row_is_refused(tmp_path):
    message = refusal(tmp_path, songs(20, extra=",pop"))
    assert "header has 3 names" in message and "4 values" in message and "Song 0" in message
    text = "id,title\n" + "".join(f"{i},A song {i},1990\n" for i in range(9))
    assert "header has 2 names" in refusal(tmp_path, text)  # the last name is missing: no row names


def test_rows_may_end_early_where_many_do(tmp_path):
    text = "title,artist,genre,year\n" + "A song,B,rock,1990\nA song,B\nOther,C,pop,1991\n" * 20
    _, rows, _, damaged = load(tmp_path, text)
    assert len(rows) == 60 and rows[1] == ["A song", "B", None, None] and not damaged
    _, rows, *_ = load(tmp_path, text + 'A,"B, C"\n"No, no",B\n')  # quotes hold together what is in them
    assert rows[60:] == [["A", "B, C", None, None], ["No, no", "B", None, None]]


def test_values_beyond_the_header_belong_to_the_last_column(tmp_path):
    text = "TRACK_ID\tPATH\tTAGS\n" + "".join(
        f"track_{i:07}\t48/{i}.mp3\t" + "\t".join(f"mood---m{k}" for k in range(i % 4 + 1)) + "\n" for i in range(40)
    )
    source, rows, _, damaged = load(tmp_path, text)
    assert source.columns == ["TRACK_ID", "PATH", "TAGS"] and not damaged
    assert rows[1][2] == '["mood---m0", "mood---m1"]' and rows[0][2] == '["mood---m0"]'


# --- headers ---


def test_three_header_rows_as_pandas_writes_them(tmp_path):
    text = ",artist,track,track\n,name,title,genre\ntrack_id,,,\n2,AWOL,Food,Hip-Hop\n3,AWOL,Electric Ave,Rock\n"
    source, rows, numbers, _ = load(tmp_path, text)
    assert source.columns == ["track_id", "artist.name", "track.title", "track.genre"]
    assert rows[0] == ["2", "AWOL", "Food", "Hip-Hop"] and numbers == [1, 2]


def test_lines_above_the_header_are_skipped(tmp_path):
    source, rows, *_ = load(tmp_path, "# exported, on Monday, by X, Y\n\nMy songs\n" + songs(20))
    assert source.columns == HEADER and len(rows) == 20 and "skipped: 2" in source.facts["header"]
    source, rows, *_ = load(tmp_path, "My songs;;\n" + songs(20, ";"))
    assert source.columns == HEADER and len(rows) == 20


@pytest.mark.parametrize(
    "line",
    [
        "user_00000{i}\t2009-05-0{i}T23:08:57Z\tf1b1cf71-bd35-4e99-8624-24a6e15f133{i}\tDeep Dish\t\tSay Hello {i}",
        "{i}\t00000000-bd35-4e99-8624-24a6e15f133{i}\tTitle of {i}\t\\N\t2011-01-01 00:00:00+00",
        "The Beatles\tSong of {i}",
        "Band {i}\tSong\t1{i} May 2021 10:0{i}",
    ],
    ids=["Last.fm", "MusicBrainz", "artists repeat", "lastfm-to-csv"],
)
def test_files_without_a_header_keep_their_first_line(tmp_path, line):
    source, rows, *_ = load(tmp_path, "".join(line.format(i=i) + "\n" for i in range(1, 9)), "c.tsv")
    assert len(rows) == 8 and source.columns[:2] == ["column1", "column2"] and "none" in source.facts["header"]


def test_names_of_groups_above_a_header_and_dashes_below(tmp_path):
    source, rows, *_ = load(tmp_path, ",Song,,Sound\nNr,Title,Artist,BPM\n" + "1,A,B,120\n2,C,D,121\n")
    assert source.columns == ["Nr", "Title", "Artist", "BPM"] and rows[0] == ["1", "A", "B", "120"]
    _, rows, *_ = load(tmp_path, "| Title | Artist |\n|---|:--|\n| A | B |\n| C | D |\n")
    assert [[cell.strip() for cell in row[1:3]] for row in rows] == [["A", "B"], ["C", "D"]]


def test_a_broken_byte_in_the_header(tmp_path):
    source, rows, *_ = load(
        tmp_path, "title,näme\nÄ,B\nÖ,C\n".encode().replace(b"n\xc3\xa4", b"n\xe4") + "Ü,D\n".encode()
    )
    assert source.columns == ["title", "n\ufffdme"] and len(rows) == 3


def test_names_are_cleaned(tmp_path):
    source, *_ = load(tmp_path, '\ufeff "title" , Artist Name ,,title\nA,B,C,D\n'.encode())
    assert source.columns == ["title", "Artist Name", "column 3", "title"]


def test_only_the_columns_that_are_asked_for_are_read(tmp_path):
    _, rows, *_ = load(tmp_path, songs(3), columns=["genre", "title"])
    assert rows[0] == ["Song 0", "rock"]


@pytest.mark.parametrize("text", ["title,artist\n", "title,artist", "title\n", "\n\n \n"])
def test_files_without_rows_are_refused(tmp_path, text):
    assert "rows" in refusal(tmp_path, text) or "only empty lines" in refusal(tmp_path, text)


def test_line_ends_of_old_macs_and_returns_inside_a_line(tmp_path):
    assert len(load(tmp_path, songs(20, end="\r"))[1]) == 20
    assert load(tmp_path, songs(20, end="\r") + '"A, B",C,""\r')[1][20] == ["A, B", "C", None]
    _, rows, _, damaged = load(tmp_path, songs(20) + "Song\r20,Band,rock\n" + "\n\n,,\n")
    assert rows[20] == ["Song 20", "Band", "rock"] and len(rows) == 21 and not damaged


def test_rows_come_in_chunks_and_can_be_read_again(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(songs(120_000))
    source = open_source(str(path), {})
    sizes = [len(chunk.rows) for chunk in source.read(["title"])]
    assert sum(sizes) == 120_000 and max(sizes) <= 50_000
    assert next(iter(source.read(None))).rows[0] == 1
