"""Sentences end where a reader would end them, whatever script he reads."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import pytest

from rxstream.segment import split

CASES: list[list[str]] = [
    # plain ends
    ["It works. ", "Does it? ", "Yes!  ", "Good"],
    ["Hello World. ", "My name is Jonas."],
    ["What is your name? ", "My name is Jonas."],
    ["There it is! ", "I found it."],
    ["What?! ", "No way!! ", "Really??? ", "Yes."],
    ["He left!\n", "she stayed."],
    ["One. ", "Two."],
    ["An end.\t", "A tab follows."],
    ["A line\nthat is wrapped. ", "Next"],
    ["It is over.\n", "A new line."],
    ["no end\r\n\r\n", "after"],
    ["no end\n\n\n", "after"],
    # titles, abbreviations
    ["Dr. Smith met Mrs. Jones. ", "They talked."],
    ["My name is Jonas E. Smith. ", "Yours?"],
    ["Were Jane and co. at the party? ", "Yes."],
    ["They closed the deal with Pitt, Briggs & Co. at noon. ", "Fine."],
    ["They closed the deal with Pitt, Briggs & Co. ", "It closed yesterday."],
    ["I visited the U.S.A. last year. ", "It was big."],
    ["I live in the U.S. ", "How about you?"],
    ["I live in the E.U. ", "How about you?"],
    ["I work for the U.S. Government in Virginia. ", "And you?"],
    ["I have lived in the U.S. for 20 years."],
    ["At 5 a.m. Mr. Smith went to the bank. ", "He left the bank at 6 P.M. ", "We then went to the store."],
    ["She has $100.00 in her bag. ", "Nice."],
    ["She has a Ph.D. in physics. ", "He has not."],
    ["It includes apples, pears, etc. ", "The rest is sold."],
    ["It includes apples, e.g. Granny Smith, i.e. Green ones. ", "See cf. Fig. 3 and No. 5."],
    ["See Sec. 3 on p. 12. ", "Then Ch. 4."],
    ["The answer is no. ", "It never was."],
    ["Is it no. 5 or no. 6? ", "Tell me."],
    ["Let us meet on Mon. or Tues. at St. Mary's. ", "Agreed?"],
    ["He sat. ", "John stood."],
    ["In the sun. ", "Mary slept."],
    ["J. R. R. Tolkien wrote it. ", "C. S. Lewis read it."],
    ["By C. A. Brown and J. I. Cole. ", "So."],
    ["It was I. ", "Who else?"],
    ["Choose plan B. ", "Then call us."],
    ["Acme Inc. Acquires Rival Corp. ", "The price is unknown."],
    ["Prof. Dr. Weber kommt, d.h. er ist da. ", "Gut."],
    ["Das gilt z. B. für Äpfel bzw. Birnen. ", "Ende."],
    ["See vs. Smith v. Jones. ", "Done."],
    ["Harry S. Truman and W. Churchill met. ", "They spoke."],
    # numbers, versions, addresses
    ["Pi is 3.14. ", "So what?"],
    ["Version v1.2.3 is out. ", "Use Python 3.11. ", "Now."],
    ["It grew by 2.5 % in 1999. ", "The end."],
    ["See https://example.com/a.b?c=d.e for more. ", "Or www.example.org."],
    ["Write to a.b@example.co.uk. ", "Thanks."],
    ["Use example.com! ", "It is good."],
    ["Edit config.yaml and run main.py. ", "Done."],
    ["The IP is 127.0.0.1. ", "Ping it."],
    ["Call obj.method(). ", "It returns None."],
    ["It costs 3.50. ", "4 people paid."],
    # lists and headings
    ["1. One thing.\n", "2. Another.\n", "3. The last"],
    ["A heading\n\n", "1. One thing.\n  ", "2. Another.\n", "It was in 1999. ", "The end."],
    ["# Title\n", "Text begins. ", "More."],
    ["Intro:\n", "- one\n", "- two\n", "- three"],
    ["Intro\n", "* one. ", "And more\n", "* two"],
    ["Intro\n", "• one\n", "• two"],
    ["1.) The first. ", "2.) The second.\n", "a. The third.\n", "b) The fourth"],
    ["See the book on\np. 55."],
    ["It is\na.b.com or\nb:c."],
    ["Steps:\n", "1) do\n", "2) be"],
    ["## What is it? ", "A test\n", "Of headings"],
    ["| a | b |\n", "| - | - |\n", "| 1 | 2 |"],
    ["It was wrapped\n-5 degrees."],
    ["It was in\n1999. ", "Then came more."],
    ["Text\n", "```py\nx = 1. Foo! Bar\n\ny\n```\n", "More."],
    ["### 1. Setup\n\n", "Text. ", "More."],
    ["**1.2. Setup**\n\n", "Do it.\n", "## IV. End\n", "Text"],
    ["A. Apples\n", "B. Bananas\n\n", "Answer: B"],
    ["(1) One\n", "(b) Two\n(or so)"],
    ["✅ Fast\n", "❌ Slow\n\n", "1️⃣ One\n", "2️⃣ Two\n", "→ Three"],
    ["| A | It is fast. | It is slow! |\n", "| B | Why? | No. |\n\n", "End."],
    # quotes, brackets, markup
    ['"Really?" he asked. ', "She said “No.” ", "Then (at last.) ", "Silence."],
    ['She turned to him, "This is great." ', "She held the book out."],
    ["She turned to him, 'This is great.' ", "He said, 'I know.'"],
    ["(One. ", "Two.) ", "Three."],
    ["It is **bold.** ", "Next *one.* ", "End"],
    ["Use `x.` ", "Then go."],
    ["It is so.[1] ", "And so.[2][3] ", "End."],
    ["„Ist das so?“ ", "„Ja.“ ", "Gut."],
    ["« Quoi ? » dit-il. ", "« Rien. » ", "Bon."],
    ["Ich sah Mr. »X«. ", "Ende. ", "»Gut.« ", "So."],
    ["“Stop!” cried Ann. ", "He stopped."],
    ["„Halt!“ – rief er. ", "– Gut! ", "— Ja."],
    ["— Привет! — сказал он. ", "— Как дела? ", "— Хорошо."],
    # ellipses
    ["It costs 3.14 dollars... or more. ", "Wait… ", "What?! ", "Yes."],
    ["Well . . . or not. ", "Maybe."],
    ["I was… thinking. ", "Then..."],
    ["Hmm... ", "Let me think."],
    # other languages
    ["Am 3. Oktober 1990, im 20. Jahrhundert. ", "Er ist 42. ", "Das ist alt. ", "Platz 3. ", "Julia kam."],
    ["Es sind 5 Mio. Euro, siehe Abb. 3. ", "Um 500 v. Chr. Geburt usw. ", "Das ist es."],
    ["Voir l'art. 3 de MM. Dupont et Durand. ", "C'est l'U.E. ", "Les autres."],
    ["Vive en EE. UU. desde 1990. ", "La Dra. López, pág. 5."],
    ["См. рис. 3 и ул. Ленина и т. д. ", "Это так. ", "В г. Москва."],
    ["Τι κάνεις; ", "Καλά. ", "Και εσύ\u037e ", "Ναι."],
    ["a; Б это; Вот. ", "डॉ. शर्मा आए।"],
    # other scripts
    ["今日は。", "元気？", "「はい。」", "そう！ ", "ok"],
    ["彼は来た。", "とても嬉しい。"],
    ["「すごい。」と彼は言った。", "次。"],
    ["这是第一句。", "这是第二句！", "真的吗？！", "是。"],
    ["他说：“你好。”", "然后走了。"],
    ["今天很好。", "“你好。”", "‘好吗？’", "“是。”", "好。"],
    ["今天很好。", '"你好。"', '他说"你好。"', "好。"],
    ["很好。", "**重点**是这个。", "**下一句。**", "然后。"],
    ["你好!", "我是AI。", "是吗?", "不是...不知道……好。"],
    ["円周率は３．１４です。", "はい。"],
    ["यह पहला है। ", "यह दूसरा है॥ ", "क्या?"],
    ["هل هذا صحيح؟ ", "نعم. ", "جيد"],
    ["یہ پہلا ہے۔ ", "یہ دوسرا ہے۔"],
    ["Սա առաջինն է։ ", "Սա երկրորդն է։"],
    ["ሰላም ነው። ", "ደህና ነኝ።"],
    ["នេះជាប្រយោគ។ ", "មួយទៀត។"],
    ["Это первое. ", "Это второе? ", "Да! ", "Нет"],
    ["Αυτό είναι. ", "Και αυτό."],
    ["이것은 문장입니다. ", "다음 문장."],
]


@pytest.mark.parametrize("sentences", CASES, ids=lambda sentences: sentences[0][:30])
def test_sentences(sentences: list[str]) -> None:
    """Cut there, and nowhere else; the white space goes with the sentence before it."""
    assert split("".join(sentences), "sentence") == sentences


@pytest.mark.parametrize("sentences", CASES, ids=lambda sentences: sentences[0][:30])
def test_sentences_after_an_empty_line(sentences: list[str]) -> None:
    """What stood before does not matter."""
    assert split("# Before\n\n" + "".join(sentences), "sentence")[1:] == sentences


FENCE = "```py\nx = 1. Foo? Bar\n\n# No heading\n- none\n```\n"


@pytest.mark.parametrize(
    "sentences",
    [
        ["Look:\n", FENCE, "Done."],
        ["Look.\n\n", FENCE + "\n", "Done. ", "So."],
        ["Look:\n   ", FENCE, "Done."],
        [FENCE],
        ["Look:\n", "~~~\nOne. Two\n```\nThree. Four\n~~~\n", "Done."],
        ["Look:\n", "````\nOne. Two\n```\nThree. Four\n````\n", "Done."],
        ["Look:\n", "```\nNever. Closed\n\nEver. And"],
        ["Look:\n", "```x``` is code. ", "Done."],
        ["Done. ", "```\nOne. ", "Two\n"],
        ["It is ```. ", "Or not\n    ", "```\nOne. ", "Two"],
    ],
)
def test_a_fence_is_never_cut(sentences: list[str]) -> None:
    """It is a piece; what only looks like one is text."""
    assert split("".join(sentences), "sentence") == sentences
