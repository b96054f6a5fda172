"""Small spreadsheets for tests, written by hand: only what a reader needs."""

import base64
import zipfile
import zlib
from xml.sax.saxutils import escape

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STYLES = f"""<styleSheet {MAIN}><cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/>
<xf numFmtId="21" applyNumberFormat="1"/><xf numFmtId="46" applyNumberFormat="1"/></cellXfs></styleSheet>"""
DATE, TIME, LONG = 1, 2, 3  # styles: a date, h:mm:ss, [h]:mm:ss


def _cell(value) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    if isinstance(value, bool):
        return f'<c t="b"><v>{value:d}</v></c>'
    number, style = value if isinstance(value, tuple) else (value, 0)
    return "<c/>" if number is None else f'<c s="{style}"><v>{number}</v></c>'


def xlsx(path, sheets: dict[str, list[list]]):
    """Write sheets of rows. A cell is a text, a number, a bool, None, or a number with a style."""
    names = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1))
    rels = "".join(
        f'<Relationship Id="r{i}" Type="{OFFICE}/worksheet" Target="worksheets/s{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>{names}</sheets></workbook>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/styles.xml": STYLES,
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">{rels}</Relationships>',
    }
    for i, rows in enumerate(sheets.values(), 1):
        body = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
        files[f"xl/worksheets/s{i}.xml"] = f"<worksheet {MAIN}><sheetData>{body}</sheetData></worksheet>"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + content)


def ods(path, rows: list[list[str]]):
    """Write one sheet of texts."""
    o = "urn:oasis:names:tc:opendocument:xmlns"
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    body = "".join(f"<table:table-row>{''.join(cell.format(escape(v)) for v in row)}</table:table-row>" for row in rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{o}:manifest:1.0"/>')
        archive.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{o}:office:1.0" xmlns:table="{o}:table:1.0" '
            f'xmlns:text="{o}:text:1.0"><office:body><office:spreadsheet><table:table table:name="Songs">{body}'
            "</table:table></office:spreadsheet></office:body></office:document-content>",
        )


# An .xls of the rows Title, Artist, Plays; Ä, B, 3; C, D, 7.5. No library here writes this kind.
XLS = zlib.decompress(
    base64.b85decode(
        b"c-rk)O=uHA6#izD&7W<$sj1KkB^0b$dl4^Q>e~9#lO_IuB7&wihtQD9HkW$PYRyp)JSkoZy?Cj5@rQa)@ZdqHKL<e&5<Pkn6g;$9"
        b"-@KizspilHEh_Vc_vX!;`F37r-pu~ITufDG?{(Gi6ZRm4x*JEN!6!)Ke#HW{yRJ0-GDhNR{8Na>Xdxpe7Fu6K<r>QMuED_F@Ke&j"
        b"2a;1bhmna=KC_M(;uvy5#xOuy;1+q3=;Wx{S)XOSk@X$!`Iz-y_FQE>Kz*y?Bo^(FzTGN|PZ&MimV~_S1LnMA&rWpUxy<5=*M!&C"
        b"#Gq5i75~nL?r;m{K<hS~FXf$Fv5GV;;2gfX8Q_b*Q=eqCe|`M|<o~wXA8q2lZiInpxMw)QD|EQN3V92Bbcu3NZb&I6aI8=+=4o#Z"
        b"I_1J-nH<?-ZfcUU;Tg#g$v%?(33)*ChPGC1=vGej7SdyAV>`v^Zqbpwbo=w`L!(*yG<&A`5ciJyEiyW|xFi`wPI60VMfWjd2kXmx"
        b")y-^ou})LiRQ6^&lyPu|`&{AHUK(c?<Bh$w!QMu8<<sGZ-Ib5_cCzP(Yv<GRZ|zz1(Cmy6U;bv$FZ#vJ8xoIfzZB|Nc+a}?mm?x("
        b"SSof`-Ot*vj0Br0)?Q7{j##M~YOW+(G+_&7hg5&TY&mZi3|W)xq+%OQ*aovr#r9SvqSywr7dFt%*l5Rn*_DpAA4ot$LqkJDLqkJD"
        b"BOnAn;(8DCVeegoA3&q(yUsF6U4JI|Z*c?@^efYg=>e3ebTAbte>TAs{<Xv!IsW%TiQ_c7gK>;<9OHrWmtOfq<NsMR(fWN`DCqe0"
        b"AaVZT@xKFREXfr"
    )
)
# An .xlsx of one cell with the password "pw".
LOCKED = zlib.decompress(
    base64.b85decode(
        b"c-rk(OLN;)7`=HlZAzi#Q9@gaM#Hf2G_oAov5TD|zhcLh<JgH~cc;j*t=f86k{vr82DUKFuwc<0GhMM@)eY=m$8?58S@W0y7W@f@"
        b"hEKAb*lAMiw9K?{kLUPW_v+qrzwbM`N`827;n%zOF8ziMVHr)KhkIwxse!%;;AH>eeDB)g!@a$|e)k^6bA`WvR{f@+cGFHRt(wmQ"
        b"PdnFh(4Gap06YhL5%^Ni0_XzpW#B8oSAnlNb1<F{^q=1;r+pgrzX*ICI1hXScnNqJcm?<-@G9^v?2~5#Ii$kJL<EW<1zH_-(Kxt>"
        b"X7<ngx#Mp7qVv(aAO14YZ)cEWE`X&f*s2<+i>QpUh=-m!d{^Q6pFqMJX)vBq^v^(-f4(<#3PnN51m<A}ma>S9G2)+xH(+0Tdc^n#"
        b"hYFylgQ5ggP|)}|k0vL^jo<1@J425~&q1q=tbYmgt+QjsdH0W^Z~YCS9jl*&JX9bXqu~mgu;ZV#YdL=Y^S0-$+*c2Iu~(5t_csjY"
        b"1o^jo@}4ua0eU>>7<SA$lE;sK-+!n7h4>%c-{JTt_TxWu0{v6)yz8JPgUYyP53=7q<LBS<>V0(7`O}MeoC;h8{YmHV;Bn5MyEEvS"
        b"KoH15+=A@_16YAPETD*;3CsBswALB5aO6qZ{~uuDg!-qQxwU~ch!Nfko~Q8a4(fYO_$(Bi`PO-Q8^z%hKrC8>)(zj+kQe!2tvLK*"
        b";1_N8g<)q=7_mlK=%*puH1xR9670je?|qaRqb{TF^|)G1KY@Ry;bWa;!5ba9L9|8PkW?i^(hF{q5EVf!OG-6FZf?Y{`ANbsd8N!Z"
        b"R7DJtUC|(KEYAhuCcUefFpGc{6eC2|OjEl~QHD?xW!_kjB|%pWwPG#^s!XYsiX@1X$L;n}2UE%3-0RvHv+H6v)>}Z;DUCOb9aS&)"
        b"7ZOgokRa-&1Y^7@lFM@hAPD18-sA~`Z<u*$7h<P<B(dF4h5ErI+!U5fh~DFcs~T_AdSgC@v{%`OAZayGXB$;jm&}?RBH37;bb2E-"
        b"UQ+CY_kVF}S&W1uy%h&0<rA!z_K^0T3VfplO4UduUeB|;ao@HODHfZGyIEbVhC(DkIf0ZRilkzSRam4;IN2A=37HpCVmCx)id8jt"
        b"t6S!87AlJ=*Cth<Dm<U$N^(IEBvn$hXwsEU=2P{JC9cJ|yh>3ia5n|HozA#6e3VdZuD26@St=#+IUk$YZif|i-P*yBmb2eVwZo?K"
        b"yGmg#u9V|ktSpA1I`NL=bx}gcUs^Gv?JTt-%ZXLhWY(i@uDQCV%ca~cDYrz+%vN@#!mtS`?r*LI8k8hPim3oQ81G<Vjph9^4D}N&"
        b"U3y~EEf1AAs9oQW7xGFNnxsV3mSTca+!n|&tTb$%Lm0Bz({<Kkbq8FR%$K%|*h=}PS@X7+k_BOnF;{kmYF-d^c%no-0YXVdYe611"
        b">9od)=|J68QT;p})3b{n!<zM2*&|nU_OZ?CU4AX;-DWz`El;7WCGss+_v><6Z^ky<tBkp;ZLTxvQj>9UMUT&9d~}B0Rf=&cvbt5="
        b"rZbz|txSjKR#F_7FL|o%bq~!B#R0W+#Il7Qx)V)E?e=OdAjskMSi6~sXE(z;nOv@361D;{O7?LXmxnvBqiu~L135OO4*4`Va4;^<"
        b"Aq)%*3=9km3=9km3=9km3=9km3=9m6{~Nyl@{`Nnd&XzXPt>{Jzal<PeZz&%&i>f`V{!8BJ3l{o=exx_$q!~foxdHpPo-MH*tg-Y"
        b"r=n|revUKu-@xAprVrQ"
    )
)
