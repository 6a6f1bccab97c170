"""English words that are no nouns, or not in descriptions of pictures: a closed list for each tag."""

_LISTS = {
    "DT": """a an the this that these those each every either neither some any no all both half such another""",
    "PRP": """i you he she it we they me him her us them who whom which what that itself himself herself themselves
        one ones something someone anything anyone everything everyone nothing none there""",
    "PRP$": """my your his her its our their whose""",
    "CC": """and or but nor so yet plus""",
    "CD": """zero one two three four five six seven eight nine ten eleven twelve dozen hundred""",
    "IN": """of in on at by for with without from into onto over under above below beneath beside besides between among
        amongst behind before after against along around across through throughout during near off out up down upon
        about as than like inside outside within toward towards underneath alongside atop past since until while
        because if although though whether where when to next away together not per via""",
    "RB": """very too also quite rather just only even still already perhaps maybe here now then again always often
        never sometimes well far however therefore furthermore additionally moreover meanwhile else instead n't almost
        indoors outdoors forward backward ahead apart respectively overall""",
    "MD": """can could may might must shall should will would""",
    "VB": """be am is are was were been being have has had having do does did done s 've 're 'll 'd 'm
        sit sits sat stand stands stood lie lies lay lays laid hang hangs hung hold holds held wear wears wore worn
        ride rides rode ridden drive drives drove walk walks run runs ran play plays eat eats ate drink drinks drank
        look looks see sees saw seen appear appears seem seems show shows shown feature features include includes
        contain contains display displays depict depicts capture captures create creates add adds make makes made
        give gives gave given take takes took taken get gets got go goes went gone come comes came become becomes
        suggest suggests indicate indicates imply implies convey conveys enjoy enjoys engage engages gather gathers
        occupy occupies consist consists reflect reflects enhance enhances provide provides contribute contributes
        extend extends face faces fill fills hit hits jump jumps carry carries pull pulls push pushes lean leans rest
        rests wait waits prepare prepares let lets keep keeps kept find finds found seem use uses help helps allow
        allows belong belongs remain remains serve serves surround surrounds cover covers visible say says said read
        reads reach reaches perform performs ski skis surf surfs skateboard skateboards""",
    "JJ": """big small large little tiny huge tall short long wide narrow high low old young new modern vintage antique
        red green blue yellow purple pink brown black white gray grey golden silver beige tan teal maroon dark light
        bright colorful pale clear open close empty full clean dirty wet dry hot cold warm cool fresh frozen raw soft
        hard smooth rough round square rectangular circular oval flat curved straight wooden metallic plastic ceramic
        leather stone brick concrete several many few much more most less least other various different same similar
        single double multiple main central front rear back left right upper lower middle top bottom nearby close
        distant busy quiet calm happy sad beautiful pretty nice cozy lovely elegant rustic delicious tasty sweet ripe
        public private urban rural outdoor indoor male female human professional casual formal visible present
        available partial possible likely certain unique entire whole own first second third last next snowy sunny
        cloudy rainy sandy grassy rocky leafy lush dense thick thin fluffy furry striped spotted plaid asian""",
}
TAGS = {word: tag for tag, words in reversed(_LISTS.items()) for word in words.split()}  # the first list has it
ENDINGS = {"ly": "RB", "ing": "VBG", "ed": "VBN", "ful": "JJ", "ous": "JJ", "less": "JJ", "ish": "JJ", "able": "JJ"}
_ENDING_ALIKE = """
    building ceiling painting clothing railing awning wing ring king string thing evening morning lighting drawing
    crossing icing topping frosting dressing seasoning pudding wedding spring swing sling carving covering flooring
    fencing siding lining setting landing opening parking serving wiring sibling duckling earring bed shed sled weed
    seed reed feed fly family belly jelly lily trolley table vegetable cable fish dish radish"""
NOUNS_ALL_THE_SAME = frozenset(_ENDING_ALIKE.split())
