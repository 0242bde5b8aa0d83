"""Words that say whether a full stop ends a sentence, by language. Capitals of these words need not be listed."""

NEVER_LAST = {
    "titles": "mr mrs ms dr prof st rev hon gen col capt cpt lieut lt maj sgt gov sen rep pres messrs mme mlle",
    "scholarly": "vs cf viz fig figs eq eqs nos vol vols pp ch sec ed eds trans dept ca approx mt ft v",
    "German": "bzw vgl ggf evtl inkl exkl zzgl sog geb gest hrn fräul dipl ing hl allg bes d.h z.b z.t u.u h.c o.ä u.ä",
    "French, Spanish, Italian, Portuguese": "mgr dra sra srta sres doña lic sig dott p.ex p.ej av j.-c",
    "Polish, Czech, Hungarian": "np tzn tj tzw inż mgr hab ul św např tzv ing mudr judr phdr ún pl például",
    "Turkish, Vietnamese": "örn bkz alb ths pgs",
    "Russian, Ukrainian": "ул проф акад им ім т.е т.к т.н см ср доц канд г-н г-жа пл вул",
    "Greek": "κ κος δρ καθ π.χ δηλ",
    "Hindi": "डॉ श्री प्रो कु सुश्री रु सं पं इं स्व डा",
    "Arabic, Persian, Hebrew": "د.أ أ.د دکتر ד״ר פרופ",
}
"""After these no sentence begins. Abbreviations of several letters, with a space between them or none, are written as
``z.b``."""
SOMETIMES_LAST = {
    "names and lists": "sr jr etc al p ph.d",
    "dates": "est jan feb mar apr jun jul aug sep sept oct nov dec",
    "firms": "inc ltd co corp bros univ ave blvd rd",
    "German": "usw hr fr jh jhd hrsg mio mrd std min sek tsd okt dez jän chr u.a gmbh verl aufl anm",
    "Polish, Czech": "itd itp atd apod",
    "Russian, Ukrainian": "г гг р рр руб коп тыс тис млн млрд др пр в вв",
    "Hindi, letters": "ए बी सी डी ई एफ जी एच आई जे के एल एम एन ओ पी क्यू आर एस टी यू वी डब्ल्यू एक्स वाई ई.पू कि.मी",
}
"""After these, as after initials and words such as U.S., a sentence begins only with a starter."""
BEFORE_NUMBERS = "no art nr abs kap bd ziff tab abb nro núm č кв стр рис"
"""Abbreviations before a number, and words of their own before anything else."""
COMPOUNDS = "str"
"""The same at the end of longer words, of three letters each (German streets)."""
STARTERS = {
    "English": "The He She It They We You This That These Those There Then In On At But And So If When As His Her Its "
    "Their Our My For However What Who Why How No Yes Not Now Nobody After Before I",
    "German": "Der Die Das Er Sie Es Wir Ich Ein Eine Und Aber Doch Dann Danach Diese Dieser Dieses Im Auf Bei Nach "
    "Wenn Auch Wer Wie Warum Heute Gestern Später Hier Dort Trotzdem Deshalb Niemand Jetzt Nun Alle",
    "Russian": "Он Она Они Это Но И В На Тогда После Потом Мы Я Вы Когда Однако",
    "Hindi": "वह यह वे ये मैं हम तुम आप उसने इसने उन्होंने लेकिन फिर और अब जब तब कोई सब",
    "Korean": "그 그는 그녀는 우리는 나는 그러나 그리고 하지만 그래서",
}
"""Words that begin a sentence."""
VERBS = {
    "English": "said asked cried replied shouted answered exclaimed whispered called screamed repeated",
    "Hindi": "कहा पूछा बोला बोली बोले चिल्लाया चिल्लाई पुकारा सोचा कहकर पूछी",
    "Korean": "말했다 물었다 외쳤다 대답했다 소리쳤다 속삭였다 중얼거렸다 말했습니다 물었습니다 외쳤습니다 "
    "대답했습니다",
    "Arabic, Persian, Urdu, Hebrew": "قال قالت سأل سألت صاح صرخ أجاب گفت پرسید کہا پوچھا אמר אמרה שאל שאלה",
}
"""Words that say who spoke, after a quotation."""
QUOTATIVES = "하고 라고 이라고 라며 하며 하더니"
"""Korean words between a quotation and who said it."""
ORDINALS = (
    "Januar Februar März April Mai Juni Juli August September Oktober November Dezember Jänner Jahrhundert "
    "Jahrhunderts Jahrhunderten Jh Jahrtausend Weltkrieg Weltkrieges Weltkriegs Stock Etage Klasse Auflage Kapitel "
    "Bundesliga Liga Spieltag Lebensjahr Geburtstag Semester Quartal Minute Armee Division Kreuzzug Bezirk FC SC"
)
"""German words after an ordinal number."""
BEFORE_ORDINALS = "der die das dem den des vom zum zur beim seinem ihrem seiner ihrer jeder jedem jeden"
"""German words before one."""
