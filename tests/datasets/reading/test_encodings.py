# ruff: noqa: RUF001 - the samples are texts as people type them.
"""No text is ever decoded to other characters than meant: it is decoded right, or refused."""

from __future__ import annotations

import codecs
import gzip
import json
import shlex
from pathlib import Path

import pytest

from runner.datasets.reading.opening import open_dataset
from runner.errors import ConfigurationError, DatasetError
from tests.cli.invocation import process

SAMPLES = {
    "German": "Wie schön ist Köln? Für viele müssen Straßen größer sein; möglich wäre „Übermut“ – später auch Ärger.",
    "German, short": "Größe Müller Straße",
    "English": "Don’t panic: it’s “only” a café … isn’t it — José’s naïve résumé? £5 and €9",
    "French": "Où est la forêt ? C’est très loin ; même après être passé, l’année dernière, à l’hôtel. Déjà vu, cœur.",
    "French, short": "Le garçon a mangé là-bas",
    "Spanish": "¿Cómo está el niño? La señora también vive en España: más información según el año. ¡Qué bien!",
    "Portuguese": "Você não é só um cão; são também corações. Então até amanhã, através da informação à mão.",
    "Italian": "Perché no? La città può essere più bella così, già oggi, è qualità.",
    "Swedish": "Det är också från en sjö för både små och stora hundar på ön.",
    "Danish": "Hvad gør du også når året er større? Være på øen, få æbler.",
    "Dutch": "België heeft één coördinator; geïnteresseerd?",
    "Polish": "Zażółć gęślą jaźń; będę mówił po polsku o różnych rzeczach, których nie zna świat.",
    "Polish, few": "Mów do mnie, bo będę tu też",
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy; řeč je česká, že ano?",
    "Czech, few": "Pán má dobré víno a není sám",
    "Hungarian": "Árvíztűrő tükörfúrógép; több mint öt őrült író él ott.",
    "Romanian": "Țara mea este frumoasă și mare, într-o lume fără sfârșit. Şi ţară.",
    "Croatian": "Čovjek će doći kući sa ženom, šuma i đaci.",
    "Turkish": "Güneş doğdu mu? İstanbul’da çok güzel bir gün, ağaç ve ışık, şeker.",
    "Turkish, few": "Çok güzel, öyle mi? Üç gün sürdü",
    "Lithuanian": "Ąžuolas ir eglė: šį rytą žmonės ėjo į mišką, daugybė ūkių.",
    "Estonian": "Õhtu on ilus, täna sõidame mäele; kõik on võimalik, öö tuleb.",
    "Latvian": "Šodien ir ļoti skaista diena, ēst ābolus un dzert ūdeni, cilvēki.",
    "Vietnamese": "Tôi đi chợ mua cá và rau, trời đẹp quá.",
    "Russian": "Привет, как дела? Съешь ещё этих мягких французских булок.",
    "Russian with English": "Don’t panic: Я люблю café? “Да” – it’s ok, и всё.",
    "Ukrainian": "Щоб їхати до міста, потрібно мати квиток; її ґанок.",
    "Greek": "Καλημέρα, τι κάνεις; Όλα είναι καλά, ευχαριστώ.",
    "Hebrew": "שלום, מה שלומך היום? הכול טוב.",
    "Arabic": "مرحبا، كيف حالك اليوم؟ كل شيء جيد.",
    "Japanese": "今日はとても良い天気です。カタカナ、ソース、表示。AI知能 don’t 可能性。",
    "Japanese, short": "猫と犬",
    "Half-width katakana": "ﾃｽﾄ ｱｲｳ ﾄﾞ",
    "Chinese": "你好，世界。今天天气很好，我们去公园吧！中文数据集。",
    "Chinese, traditional": "你好，世界。今天天氣很好，我們去公園吧！",
    "Korean": "안녕하세요, 오늘 날씨가 좋네요. 데이터.",
    "Thai": "สวัสดีครับ วันนี้อากาศดีมาก",
}
_NAMES = """
cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp850 cp852 cp858 cp866 cp874 iso8859-1
iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-13
iso8859-14 iso8859-15 iso8859-16 koi8_r koi8_u mac_roman mac_latin2 mac_cyrillic mac_turkish cp932 euc_jp
shift_jis gbk gb18030 big5 euc_kr cp949 johab utf-8 utf-8-sig utf-16 utf-16-le utf-16-be utf-32 utf-32-le
utf-32-be
"""
ENCODINGS = _NAMES.split()
WESTERN = ["German", "English", "French", "Spanish", "Portuguese", "Italian", "Swedish", "Danish"]


def cells(path: Path, **options: str) -> list[str]:
    with open_dataset(path, **options) as opened:  # type: ignore[arg-type]
        return [row.value["answer"] for row in opened.rows() if row.value is not None]


def cells_or_code(path: Path) -> list[str]:
    try:
        return cells(path)
    except DatasetError as error:
        return [finding["code"] for finding in error.findings]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_is_decoded_right_or_refused(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for name, sample in SAMPLES.items():
        for text in (sample, sample.upper(), *sample.split()):
            data = text.encode(encoding, "ignore")
            meant = data.decode(encoding)
            if not meant.strip():
                continue
            path.write_bytes(f'prompt\tanswer\nq\t"{meant}"\n'.encode(encoding))
            found = cells_or_code(path)
            if found != ["not-utf8"]:
                # What is valid UTF-8 is read as such: two symbols of johab are, by accident.
                assert found in ([meant], [data.decode("utf-8", "replace")]), (name, text)
            if not encoding.startswith("utf-"):
                assert cells(path, encoding=encoding) == [meant]


@pytest.mark.parametrize("language", WESTERN)
def test_what_windows_writes_in_western_europe_is_recognised(language: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f'prompt;answer\r\nq;"{SAMPLES[language]}"\r\n'.encode("cp1252"))
    with open_dataset(path) as opened:
        assert (opened.encoding, opened.layout) == ("cp1252", "table")
        assert opened.notes == ["Windows-1252 (cp1252), read as such"]
    assert cells(path) == [SAMPLES[language]]


@pytest.mark.parametrize("behind", ["“", "”", "…", "–", "’", "‘", "\xa0"])
def test_a_sharp_s_before_punctuation_is_not_taken_for_another_script(behind: str, tmp_path: Path) -> None:
    """In cp1252 both are bytes that could be a letter of N'Ko in UTF-8."""
    path = tmp_path / "t.csv"
    meant = f"Die Größe, „das Maß{behind} genannt"
    path.write_bytes(f"prompt;answer\r\nq;{meant}\r\n".encode("cp1252"))
    assert cells(path) == [meant]


def test_the_command_for_an_encoding_in_doubt_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my table.csv"
    path.write_bytes("prompt;answer\r\nq;Straüe\r\n".encode("cp1252"))
    with pytest.raises(DatasetError) as caught:
        cells(path)
    command = shlex.split(caught.value.findings[0]["fix"].split("`")[1])
    assert process(*command[1:]).code == 0
    assert json.loads((tmp_path / "my table.jsonl").read_text("utf-8"))["completion"] == "Straüe"


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("Japanese", "cp932"),
        ("Japanese", "euc_jp"),
        ("Chinese", "gb18030"),
        ("Chinese, traditional", "big5"),
        ("Korean", "cp949"),
        ("Russian", "cp1251"),
        ("Greek", "cp1253"),
        ("Arabic", "cp1256"),
    ],
)
def test_a_command_names_the_encoding_that_the_text_seems_to_be_in(
    language: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    meant = SAMPLES[language].encode(encoding, "ignore").decode(encoding)
    path.write_bytes(f"prompt\tanswer\r\nq\t{meant}\r\n".encode(encoding))
    with pytest.raises(DatasetError) as caught:
        cells(path)
    fix = caught.value.findings[0]["fix"]
    line = f"q\t{meant}"
    assert f"if line 2 is to read {line[:40]!r}, name its encoding" in fix
    named = shlex.split(fix.split("`")[1])
    assert cells(path, encoding=named[named.index("--encoding") + 1]) == [meant]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_line_is_said_to_read_is_what_the_command_reads(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for sample in SAMPLES.values():
        path.write_bytes(f"prompt\tanswer\nq\t{sample}\n".encode(encoding, "ignore"))
        try:
            cells(path)
            fix = ""
        except DatasetError as error:
            fix = error.findings[0]["fix"]
        if "is to read" in fix:
            named = shlex.split(fix.split("`")[1])
            read = "q\t" + cells(path, encoding=named[named.index("--encoding") + 1])[0]
            assert f"is to read {read.strip()[:40]!r}, " in fix


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith("utf-")])
@pytest.mark.parametrize("layout", ["lines", "array"])
def test_json_in_every_unicode_encoding(encoding: str, layout: str, tmp_path: Path) -> None:
    bodies = [{"prompt": sample, "completion": name} for name, sample in SAMPLES.items()]
    text = "\r\n".join(json.dumps(body, ensure_ascii=False) for body in bodies) if layout == "lines" else None
    path = tmp_path / "t.jsonl"
    path.write_bytes((text or json.dumps(bodies, ensure_ascii=False, indent=1)).encode(encoding))
    with open_dataset(path) as opened:
        assert opened.layout == ("json-lines" if layout == "lines" else "json")
        assert [json.loads(row.data.removeprefix(codecs.BOM_UTF8)) for row in opened.rows()] == bodies


def test_the_guess_of_the_beginning_does_not_bind_the_rest(tmp_path: Path) -> None:
    """The beginning is German in any of several encodings; only what follows tells which."""
    path = tmp_path / "t.csv"
    german = "prompt,answer\n" + "für,müssen\n" * 100_000
    path.write_bytes(german.encode("cp1250") + "q,będę\n".encode("cp1250"))
    with pytest.raises(DatasetError, match=r"line 100002 of t\.csv: byte 1100017 ") as caught:
        cells(path)
    assert caught.value.findings[0]["line"] == 100_002
    assert "--encoding" in caught.value.findings[0]["fix"]
    assert cells(path, encoding="cp1250")[-1] == "będę"


@pytest.mark.parametrize(
    ("encoding", "tail", "line", "offset"),
    [
        ("utf-8", b"q,\xff\n", 20_002, 80_016),
        ("utf-16", "q,".encode("utf-16-le") + b"\x00\xd8\n\x00", 20_002, 160_034),
        ("utf-8", b"q,\xe2\x82", 20_002, 80_016),
    ],
)
def test_a_broken_character_is_named_by_line_and_byte(
    encoding: str, tail: bytes, line: int, offset: int, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(("prompt,answer\n" + "q,a\n" * 20_000).encode(encoding) + tail)
    with pytest.raises(DatasetError, match=f"line {line} of t.csv: byte {offset} "):
        cells(path)


def test_json_lines_with_broken_bytes_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    data = '{"prompt": "für", "completion": "später"}\n'.encode("cp1252") * 3
    path.write_bytes(data)
    with open_dataset(path) as opened:
        assert (opened.encoding, opened.lines().read().decode()) == ("cp1252", data.decode("cp1252"))
    data = b'{"prompt": "\xff\xfe", "completion": "b"}\n' * 3
    path.write_bytes(data)
    with open_dataset(path) as opened:
        assert (opened.encoding, opened.is_plain, opened.lines().read()) == ("utf-8", True, data)
        assert opened.notes == ["not all of it is UTF-8"]
    with open_dataset(path, encoding="latin-1") as opened:
        assert not opened.is_plain
        assert opened.lines().read().decode() == data.decode("latin-1")


@pytest.mark.parametrize("piped", [False, True])
def test_windows_1252_is_decoded_beyond_the_first_bytes(piped: bool, tmp_path: Path) -> None:
    path = tmp_path / ("t.jsonl.gz" if piped else "t.jsonl")
    pack = gzip.compress if piped else bytes
    line = '{"prompt": "für", "completion": "später"}\n'
    path.write_bytes(pack((line * 20_000).encode("cp1252")))
    with open_dataset(path) as opened:
        assert "Windows-1252 (cp1252), read as such" in opened.notes
        assert opened.lines().read().decode() == line * 20_000


@pytest.mark.parametrize("before", range(4))
def test_what_becomes_utf8_behind_the_first_bytes_is_not_decoded_wrongly(before: int, tmp_path: Path) -> None:
    """At any place of a block, even when its bytes are split between two."""
    path = tmp_path / "t.jsonl"
    line = '{"prompt": "für", "completion": "später"}\n'.encode("cp1252")
    size = 2 * 256 * 1024
    data = (line * (size // len(line) + 1))[: size - before - 13]
    data = data[: data.rfind(b"\n") + 1]
    data += b'{"prompt": "' + b"a" * (size - before - 12 - len(data)) + "€".encode() + b'", "completion": "b"}\n'
    path.write_bytes(data)
    with open_dataset(path) as opened, pytest.raises(DatasetError, match=r"a part is UTF-8|another one is meant"):
        opened.lines().read()


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "", "a\0b"])
def test_an_unknown_encoding_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    if name:
        with pytest.raises(ConfigurationError, match="unknown encoding"), open_dataset(path, encoding=name):
            pass
