import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.synth.words import spoken


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Mr. Smith paid $3.50.", "Mister Smith paid three dollars and fifty cents."),
        ("It's $1, $0.99 or £20", "It's one dollar, ninety-nine cents or twenty pounds."),
        ("$1.5M and $700k", "one point five million dollars and seven hundred thousand dollars."),
        ("$60 million", "sixty million dollars."),
        ("about $50 000 in all", "about fifty thousand dollars in all."),
        ("$5-10 a month", "five to ten dollars a month."),
        ("$20-30k, $1.5-2 million", "twenty to thirty thousand dollars, one point five to two million dollars."),
        ("$100k - 200k", "one hundred thousand to two hundred thousand dollars."),
        ("$1.50-2.50", "one dollar and fifty cents to two dollars and fifty cents."),
        ("US$5, a $5-10 bill", "five dollars, a five to ten dollar bill."),
        ("$5-10% of it", "five dollars to ten percent of it."),
        ("He left at 3 p.m. on Jan. 5, 2024.", "He left at three P.M. on January fifth, twenty twenty-four."),
        ("10:30 am, 5pm, 10:00 or 9:05", "ten thirty A.M., five P.M., ten o'clock or nine oh five."),
        ("on 12/25/2024", "on December twenty-fifth, twenty twenty-four."),
        ("on 2020-05-06", "on May sixth, twenty twenty."),
        ("on 2020/05/06", "on May sixth, twenty twenty."),
        ("9/11/2001", "September eleventh, two thousand and one."),
        ("31.12.1999", "December thirty-first, nineteen ninety-nine."),
        ("on 15 August 1947", "on the fifteenth of August nineteen forty-seven."),
        ("on the 5 Dec 2010", "on the fifth of December twenty ten."),
        ("iOS 12.1.10", "iOS twelve point one point ten."),
        ("at 10.12.13.14", "at ten point twelve point thirteen point one four."),
        ("in 1984, in 1905", "in nineteen eighty-four, in nineteen oh-five."),
        ("the 1990s, the '80s, my 20s", "the nineteen nineties, the eighties, my twenties."),
        ("1,234 of 18,000", "one thousand two hundred and thirty-four of eighteen thousand."),
        ("0.5, -3.5 and 007", "zero point five, minus three point five and zero zero seven."),
        ("1st, 22nd, 100th", "first, twenty-second, one hundredth."),
        ("3/4 of 1 1/2 cups", "three quarters of one and a half cups."),
        ("8/10, open 24/7", "eight out of ten, open twenty-four seven."),
        ("8.5/10 or 3.5/5", "eight point five out of ten or three point five out of five."),
        ("won 222-0", "won two hundred and twenty-two to zero."),
        ("50% at 72°F", "fifty percent at seventy-two degrees Fahrenheit."),
        (
            "180lbs, 1 km, 5 ft and 60 mph",
            "one hundred and eighty pounds, one kilometer, five feet and sixty miles per hour.",
        ),
        ("I'm 5'10\"", "I'm five foot ten."),
        ('2.7" thick (or "about 2.7")', "two point seven inches thick, or about two point seven."),
        ("3 m/s or 50 Mbps", "three meters per second or fifty megabits per second."),
        ("9.8 m/s²", "nine point eight meters per second squared."),
        ("dialed 911, 911 people", "dialed nine one one, nine hundred and eleven people."),
        ("+60 3-2268 3888", "plus six zero three two two six eight three eight eight eight."),
        ("86-10-4016-99", "eight six one zero four zero one six nine nine."),
        ("call 2367-9960", "call two three six seven nine nine six zero."),
        ("3000-5000", "three thousand to five thousand."),
        ("1990-2005-2010", "nineteen ninety to two thousand and five to twenty ten."),
        ("1-3-1 and 120-108", "one to three to one and one hundred and twenty to one hundred and eight."),
        ("call 555-123-4567", "call five five five one two three four five six seven."),
        ("it is 6789777, of 5000000", "it is six seven eight nine seven seven seven, of five million."),
        ("10 000 of 1 500 000", "ten thousand of one million five hundred thousand."),
        ("version 2.0.1", "version two point zero point one."),
        ("mail bob.s@mail.co.uk!", "mail bob dot s at mail dot co dot uk!"),
        ("see https://www.example.com/menu.", "see example dot com slash menu."),
        ("NASA, the FBI, two TVs in NYC", "NASA, the F.B.I., two T.V.'s in N.Y.C."),
        ("the U.S. economy", "the U.S. economy."),
        ("THIS IS SHOUTING", "this is shouting."),
        ("OK, fruit, e.g. apples, etc.", "okay, fruit, for example apples, et cetera."),
        ("he/she and/or them w/ us", "he or she and or them with us."),
        ("Mm-hm. Mhm, hm, 5 mm", "um-hum. um-hum, hmm, five millimeters."),
        ("I paid C$20 or HK$ 5", "I paid twenty dollars or five dollars."),
        ("A$AP and Ke$ha paid about£3", "ASAP and Kesha paid about three pounds."),
        ("a 5$ bill, 96$ million, 5 €", "a five dollar bill, ninety-six million dollars, five euros."),
        ("call 1-800-Movies", "call one eight hundred Movies."),
        ("Well...40 of them, a deal.10 more", "Well. forty of them, a deal. ten more."),
        ("he bats .347 (or .5)", "he bats zero point three four seven, or zero point five."),
        ("U2's PS3s, B-52s, 49'ers", "U twos P.S. threes, B fifty-twos, forty-nineers."),
        ("≥ 5, ±2, <3 of ≈9", "at least five, plus or minus two, less than three of about nine."),
        ("C# and F#, #1s", "C sharp and F sharp, number ones."),
        ("60's/70's, mid-80s", "sixties or seventies, mid eighties."),
        ("N/A, aka w/e, b/c", "not applicable, also known as whatever, because."),
        ("b/c they fit, a = b/c, b/c = 3", "because they fit, a equals b or c, b or c equals three."),
        ("Q&A, A+, #1, #fun", "Q and A, A plus, number one, hashtag fun."),
        ("4 × 5 = 20", "four times five equals twenty."),
        ("$80/4 - 5 = $15", "eighty dollars divided by four minus five equals fifteen dollars."),
        ("80-20=60, 80-20 or 1/4", "eighty minus twenty equals sixty, eighty to twenty or one quarter."),
        ("$4/book, $10/hr", "four dollars per book, ten dollars per hour."),
        ("I like M&Ms. Ms. Lee", "I like M and Ms. Miss Lee."),
        ("Café Zoë in Łódź", "Cafe Zoe in Lodz."),
        ('"Well" - he (Tom) said: no', "Well, he, Tom, said: no."),
        ("What?! No!!! Wait...", "What? No! Wait."),
        ("don't rock 'n' roll", "don't rock n roll."),
        ("COVID-19 on an iPhone14", "COVID nineteen on an iPhone fourteen."),
        ("Vol. 2, vol 3, op. 28", "volume two, volume three, opus twenty-eight."),
        ("Fig. 3 in ch. 4, pp. 5-6", "figure three in chapter four, pages five to six."),
        ("No. 5, Nos. 6, ca. 1850", "number five, numbers six, circa eighteen fifty."),
        ("Rockabye ft. Sean Paul, 3 ft. tall", "Rockabye featuring Sean Paul, three feet tall."),
        ("Dr. Who on St. John St.", "Doctor Who on Saint John Street."),
    ],
)
def test_written_english_is_said_as_people_say_it(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("open 7:30-9:00, 4-6 p.m.", "open seven thirty to nine o'clock, four to six P.M."),
        ("10am - 5pm or 9 p.m.-12", "ten A.M. to five P.M. or nine P.M. to twelve."),
        ("5.30pm-7.05 p.m.", "five thirty P.M. to seven oh five P.M."),
        ("July 28-29, May 5th-10th", "July twenty-eighth to twenty-ninth, May fifth to tenth."),
        (
            "the 5th-6th grade in the 1990s-2000s",
            "the fifth to sixth grade in the nineteen nineties to two thousands.",
        ),
        ("$1M-$2M, 10%-15%", "one million dollars to two million dollars, ten percent to fifteen percent."),
        ("an 80-yard run, PG-13, team-2", "an eighty yard run, P.G. thirteen, team two."),
    ],
)
def test_the_ends_of_a_range_have_their_word_between(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("December 17,2017", "December seventeenth, twenty seventeen."),
        ("died 13,1996", "died thirteen, nineteen ninety-six."),
        ("May 4,5 and 6", "May fourth, five and six."),
        ("May 1,204 people", "May one thousand two hundred and four people."),
        (
            "1,234,567 of 2,000",
            "one million two hundred and thirty-four thousand five hundred and sixty-seven of two thousand.",
        ),
    ],
)
def test_a_comma_without_a_space_parts_numbers_that_it_does_not_group(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("$53 million dollars", "fifty-three million dollars."),
        ("$25-$55 bucks", "twenty-five dollars to fifty-five bucks."),
        ("a $3.3 billion dollar market", "a three point three billion dollar market."),
        ("$2.50 dollars", "two dollars and fifty cents."),
    ],
)
def test_a_currency_that_is_written_twice_is_said_once(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a $5 bill", "a five dollar bill."),
        ("a $40M deal for an $0.80 part", "a forty million dollar deal for an eighty cent part."),
        ("an 8 oz cup, a 12oz mocha", "an eight ounce cup, a twelve ounce mocha."),
        ("A 30 min drive at 30 mph", "A thirty minute drive at thirty miles per hour."),
        ("pizza $5, 12 oz", "pizza five dollars, twelve ounces."),
    ],
)
def test_a_measure_behind_an_article_is_singular(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("World War II, WWI, WW2", "World War two, World War one, World War two."),
        ("Rocky II, III and IV", "Rocky two, three and four."),
        ("Queen Elizabeth II and Henry VIII", "Queen Elizabeth the second and Henry the eighth."),
        ("Episode V, World War I", "Episode five, World War one."),
        ("Super Bowl XX or Superbowl LI", "Super Bowl twenty or Superbowl fifty-one."),
        ("Part II: it's Boyz II Men's", "Part two: it's Boyz two Men's."),
        ("Malcolm X, the XX, LL and XL, on an IV", "Malcolm X, the X.X., L.L. and X.L., on an IV."),
        ("The best Super Bowl I saw, a part I liked", "The best Super Bowl I saw, a part I liked."),
    ],
)
def test_roman_numerals_are_numbers(sentence, expected):
    assert spoken(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("LOVED IT, ask the IT department", "LOVED it, ask the I.T. department."),
        ("YES I AM. Luke, I AM YOUR FATHER", "YES I am. Luke, I am YOUR FATHER."),
        ("AM radio at 3 AM", "A.M. radio at three A.M."),
        ('I"m sure you;re right, that;s it', "I'm sure you're right, that's it."),
        ('80"s, 70;s and 60,s', "eighties, seventies and sixties."),
        ("Mm hmm, Mmm-hm. Mhm", "um-hum, um-hum. um-hum."),
        ("50/50, hindsight is 20/20 and 24/7", "fifty fifty, hindsight is twenty twenty and twenty-four seven."),
    ],
)
def test_what_people_type_is_said_as_they_mean_it(sentence, expected):
    assert spoken(sentence) == expected


EXPRESSIONS = """
3:45pm|3 p.m.|12/31/1999|12-31-99|31.12.1999|2020-01-05|9/11|Jan. 5, 2020|July 4th|4 July|in 2005|the '80s|1995-96
555-1234|555-123-4567|$5|$1,000.50|$1.2M|$20-30k|€3bn|$3/day|50%|10-15%|0.5|98.6|1,234,567.89|v2.0.1|-5|007
24/7|3/4|2 1/2|8.5/10|3-2|16:9|5'10"|6 ft|3lbs|100km/h|32°F|3.5GHz|iPhone 14|COVID-19|401(k)|the 21st|World War II
"""


@pytest.mark.parametrize("expression", re.split("[|\n]", EXPRESSIONS.strip()))
@pytest.mark.parametrize("behind", [".", "?", ", yes", '" yes', ") yes", "; yes", "... yes"])
def test_what_stands_behind_an_expression_does_not_change_it(expression, behind):
    def words(sentence: str) -> list[str]:
        return re.findall("[a-z]+", spoken(sentence).lower())

    before = {'"': 'It is "', ")": "It is ("}.get(behind[0], "It is ")
    expected = words(f"It is {expression}") + ["yes"] * behind.endswith("yes")
    assert words(f"{before}{expression}{behind}") == expected


@given(st.text(alphabet=st.sampled_from("0123456789.,:/-$£%°'\"#+= aAmMpPkKsthFC&@()"), max_size=40))
def test_no_digit_or_sign_reaches_an_engine(sentence):
    try:
        said = spoken(sentence)
    except Unusable as unusable:
        assert unusable.reason == "address"
        return
    assert re.fullmatch(r"(?:[A-Za-z' ,.!?;:-]*[.!?])?", said)


@given(st.integers(min_value=0))
def test_whole_numbers_of_any_size_are_said(number):
    assert re.fullmatch(r"[a-z -]+\.", spoken(str(number)))


@pytest.mark.parametrize("address", ["www.example.com/" + "a" * 80, "https://x.org/?q=1", "http://a.com/id/8812345"])
def test_an_address_nobody_would_read_out_is_refused(address):
    with pytest.raises(Unusable) as caught:
        spoken(f"see {address}")
    assert caught.value.reason == "address"


def test_a_letter_without_an_english_one_is_refused():
    with pytest.raises(Unusable) as caught:
        spoken("the Ʒ letter")
    assert caught.value.reason == "foreign_script"
