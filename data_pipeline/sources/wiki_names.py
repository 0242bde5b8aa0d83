"""Names with a meaning in MediaWiki's markup: namespaces, image options, languages, tags and templates."""


def words(text: str) -> frozenset[str]:
    """Split ``text`` at white space; underscores become spaces."""
    return frozenset(word.replace("_", " ") for word in text.split())


FILE_NAMES = words(
    "file image datei bild fichier archivo imagen ficheiro imagem ficheru immagine bestand "
    "afbeelding plik grafika fil soubor súbor fájl kép tiedosto kuva dosya resim fișier fişier imagine "
    "datoteka slika berkas gambar файл изображение зображення файла слика датотека податотека αρχείο "
    "εικόνα קובץ תמונה ملف صورة پرونده تصویر चित्र ছবি ไฟล์ ภาพ ファイル 画像 파일 그림 文件 檔案 档案 图像 圖像 "
    "tập_tin hình fitxer imatge fitxategi irudi dosiero pilt pilte attēls vaizdas delwedd íomhá mynd picha فایل "
    "सञ्चिका"
)
"""Names of the namespace of files in the larger Wikipedias; a dump lists its own too."""
CATEGORY_NAMES = words(
    "category kategorie catégorie categoría categoria categorie kategoria kategori kategória kategorio "
    "luokka kategooria kategorija категория категорія категорија катэгорыя катэгорыі κατηγορία קטגוריה "
    "تصنيف رده زمرہ श्रेणी বিষয়শ্রেণী หมวดหมู่ カテゴリ 분류 分类 分類 catagóir flokkur jamii clasa kategorya "
    "thể_loại"
)

NAMESPACES = words(
    "media special talk user user_talk wikipedia wikipedia_talk project project_talk file file_talk image image_talk "
    "mediawiki mediawiki_talk template template_talk help help_talk category category_talk portal portal_talk module "
    "module_talk draft draft_talk"
)
"""Namespaces other than that of articles, in every wiki."""

FRAMED = words(
    "thumb thumbnail frame framed mini miniatur gerahmt vignette cadre encadré miniaturadeimagen "
    "miniatura marco miniaturadaimagem moldura riquadrato min mały ramka náhled rám miniatyr ram "
    "pienoiskuva kehys мини миниатюра обрамить мініатюра обрамити küçükresim ממוזער ממוסגר تصغير إطار "
    "بندانگشتی قاب サムネイル フレーム 섬네일 프레임 缩略图 縮圖 有框 nhỏ khung jmpl miniaturë bawd"
)
"""Image options that show the caption."""
OPTIONS = words(
    "frameless border left right center centre none baseline sub super sup top text-top middle bottom "
    "text-bottom upright rahmenlos rand links rechts zentriert ohne hochkant sans_cadre bordure gauche "
    "droite centré néant redresse sinmarco borde izquierda izda derecha dcha centro no ninguna esquerda "
    "direita nenhum senza_cornice bordo sinistra destra verticale geenkader geen lewo prawo środek brak "
    "безрамки граница справа слева центр центре без_обрамки праворуч ліворуч центр sol sağ orta 右 左 中央 なし "
    "右側 左側 无 無 居中 置中 왼쪽 오른쪽 가운데"
)
VALUED = words(
    "alt link lang page class upright start end thumbtime loop muted size thumb thumbnail mini hochkant "
    "verweis seite redresse альт ссылка"
)
"""Image options with a value: ``alt=A wall``."""
MEDIA_SUFFIXES = tuple(
    words(
        ".jpg .jpeg .png .gif .svg .tif .tiff .webp .xcf .ogg .oga .ogv .webm .wav .mp3 .mid .flac .opus .djvu "
        ".pdf .stl"
    )
)

LANGUAGES = words(
    "aa ab ace ady af ak als alt am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba "
    "ban bar bat-smg bbc bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug "
    "bxr ca cbk-zam cdo ce ceb ch cho chr chy ckb co cr crh cs csb cu cv cy da dag de dga din diq dsb dtp "
    "dty dv dz ee el eml en eo es et eu ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan "
    "gcr gd gl glk gn gom gor got gpe gsw gu guc gur guw gv ha hak haw he hi hif ho hr hsb ht hu hy hyw "
    "hz ia iba id ie ig igl ii ik ilo inh io is it iu ja jam jbo jv ka kaa kab kbd kbp kcg kg kge ki kj "
    "kk kl km kn knc ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe lez lfn lg li lij lld lmo ln lo "
    "lrc lt ltg lv lzh mad mai map-bms mdf mg mh mhr mi min mk ml mn mni mnw mo mos mr mrj ms mt mus mwl "
    "my myv mzn na nah nan nap nb nds nds-nl ne new ng nia nl nn no nov nqo nr nrm nso nup nv ny oc olo "
    "om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy rn ro roa-rup "
    "roa-tara rsk ru rue rup rw sa sah sat sc scn sco sd se sg sgs sh shi shn shy si simple sk skr sl sm "
    "smn sn so sq sr srn ss st stq su sv sw syl szl szy ta tay tcy tdd te tet tg th ti tig tk tl tly tn "
    "to tok tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo vro wa war wo wuu xal xh "
    "xmf yi yo yue za zea zgh zh zh-classical zh-min-nan zh-yue zu"
)
"""Prefixes of links to the same page in another language, which are not part of the text."""

SWITCHES = words(
    "NOTOC FORCETOC TOC NOEDITSECTION NEWSECTIONLINK NONEWSECTIONLINK NOGALLERY HIDDENCAT "
    "NOCONTENTCONVERT NOCC NOTITLECONVERT NOTC START END INDEX NOINDEX STATICREDIRECT DISAMBIG "
    "EXPECTUNUSEDCATEGORY EXPECTUNUSEDTEMPLATE ARCHIVEDTALK NOTALK KEIN_INHALTSVERZEICHNIS "
    "INHALTSVERZEICHNIS_ERZWINGEN"
)
"""Behaviour switches, written ``__NOTOC__``."""

INVISIBLE = words(
    "ref references math ce chem hiero graph score timeline imagemap inputbox categorytree section "
    "templatedata templatestyles style script mapframe maplink indicator includeonly img meta link wbr"
)
"""Tags without readable text; formulas are drawn."""
BLOCKS = words("p div blockquote center poem pre source syntaxhighlight h1 h2 h3 h4 h5 h6 ul ol dl li hr table")
"""Tags that begin a new paragraph."""

SHOWN_PARAMETER: dict[str, int] = {
    **dict.fromkeys(words("lang langx transl transliteration"), -1),
    **dict.fromkeys(
        words(
            "nowrap nobr small smaller big larger abbr tooltip em strong var kbd code sc smallcaps sic nihongo quote "
            "blockquote quotation cquote formatnum ill iast"
        ),
        1,
    ),
}
"""Template -> number of the parameter that it shows; -1 for the last."""
SHOWN_TEXT = {
    "ndash": "\u2013",
    "snd": " \u2013 ",
    "spaced ndash": " \u2013 ",
    "mdash": "\u2014",
    "nbsp": " ",
    "!": "|",
    "=": "=",
    "dot": " \u00b7 ",
}
"""Template -> the character that it shows."""
RANGES = words("to and or by x - \u2013 \u00d7 +/- \u00b1")
"""Between the numbers of ``{{convert|5|to|6|km}}``."""
