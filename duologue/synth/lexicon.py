"""Abbreviations, initials and units of written English, and how they are said."""

from __future__ import annotations

MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
# Written with a full stop; the case counts.
ABBREVIATIONS = {
    "Mr.": "Mister",
    "Mrs.": "Missus",
    "Ms.": "Miss",
    "Prof.": "Professor",
    "Rev.": "Reverend",
    "Capt.": "Captain",
    "Lt.": "Lieutenant",
    "Sgt.": "Sergeant",
    "Col.": "Colonel",
    "Gen.": "General",
    "Sen.": "Senator",
    "Gov.": "Governor",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Apt.": "Apartment",
    "Mt.": "Mount",
    "Inc.": "Incorporated",
    "Corp.": "Corporation",
    "Ltd.": "Limited",
    "Dept.": "Department",
    "dept.": "department",
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
    "Etc.": "Et cetera",
    "vs.": "versus",
    "approx.": "approximately",
    "est.": "estimated",
    "min.": "minutes",
    "hr.": "hours",
    "hrs.": "hours",
    "Mon.": "Monday",
    "Tues.": "Tuesday",
    "Wed.": "Wednesday",
    "Thurs.": "Thursday",
    "Fri.": "Friday",
    "Sat.": "Saturday",
} | {f"{month[:3]}.": month for month in MONTHS if month != "May"}
# A pattern of what is an address of the web without saying so.
DOMAIN = r"[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|io|co|uk)\b"
# Before a number, with a full stop.
NUMBERED = {"p": "page", "pp": "pages", "ca": "circa"} | {
    form: said
    for name, said in {
        "no": "number",
        "nos": "numbers",
        "vol": "volume",
        "op": "opus",
        "ch": "chapter",
        "ep": "episode",
        "fig": "figure",
    }.items()
    for form in (name, name.capitalize())
}
SHORTHAND = {
    "vs": "versus",
    "etc": "et cetera",
    "aka": "also known as",
    "n/a": "not applicable",
    "w/e": "whatever",
    "ie": "that is",
    "eg": "for example",
    "w/": "with",
    "w/o": "without",
    "btw": "by the way",
    "idk": "I don't know",
    "tbh": "to be honest",
    "imo": "in my opinion",
    "imho": "in my humble opinion",
    "brb": "be right back",
    "thx": "thanks",
    "pls": "please",
    "plz": "please",
    "ppl": "people",
    "omg": "oh my god",
    "ok": "okay",
    "hm": "hmm",
    "mmm": "hmm",
}
# Initials that hold a vowel and are spelled all the same; those without one always are, unless they are words.
SPELLED = frozenset(
    """
    ABC AC AI AM AP API ATM BBC CEO CFO CIA CIO CPU CTO DIY EA EPA ESPN EU EV FAA FAQ FBI FDA FYI GPA
    GPU HBO HIV IBM ID IOS IP IPA IPO IQ IRA IRS ISBN IVF LA LAPD MBA MIT MLA NBA NCAA NSA NYU OCD
    OJ OS PA PE POV PTA ROI RSVP SEO SUV UAE UCLA UFC UFO UI UK UN UPS US USA USB USDA USPS UV VIP XL
    """.split()  # noqa: SIM905
)
# What IT stands before where it is information technology; elsewhere it is a pronoun in capitals.
IT_TRADE = frozenset(
    """
    admin company consultant department dept guy help infrastructure industry job manager person professional project
    sector security service specialist staff support system team
    """.split()  # noqa: SIM905
)
WORDS = frozenset(
    """
    BY CRY DR DRY FLY FRY HM HMM HMMM MM MMM MR MRS MS MY SHH SHY SKY SPY TRY WHY
    """.split()  # noqa: SIM905
)
PER = {"hr": "hour", "mo": "month", "yr": "year"}
UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "mpg": ("mile per gallon", "miles per gallon"),
    "m/s²": ("meter per second squared", "meters per second squared"),
    "m/s": ("meter per second", "meters per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "sq ft": ("square foot", "square feet"),
    "km²": ("square kilometer", "square kilometers"),
    "m²": ("square meter", "square meters"),
    "ft²": ("square foot", "square feet"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "ft": ("foot", "feet"),
    "mi": ("mile", "miles"),
    "yd": ("yard", "yards"),
    "yds": ("yard", "yards"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "g": ("gram", "grams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "tbsp": ("tablespoon", "tablespoons"),
    "tsp": ("teaspoon", "teaspoons"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "W": ("watt", "watts"),
    "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"),
    "ms": ("millisecond", "milliseconds"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "yr": ("year", "years"),
    "yrs": ("year", "years"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°": ("degree", "degrees"),
    "%": ("percent", "percent"),
    "¢": ("cent", "cents"),
    "k": ("thousand", "thousand"),
}
SCALES = {"k": "thousand", "m": "million", "mm": "million", "b": "billion", "bn": "billion", "t": "trillion"}
SIGNS = {"&": "and", "@": "at", "=": "equals", "+": "plus", "×": "times", "÷": "divided by", "%": "percent"} | {
    "°": "degrees",
    "²": "squared",
    "³": "cubed",
    "£": "pounds",
    "€": "euros",
    "¥": "yen",
    "₹": "rupees",
    "¢": "cents",
    "$": "dollars",
    "<": "less than",
    ">": "greater than",
    "≤": "at most",
    "≥": "at least",
    "≈": "about",
    "±": "plus or minus",
}
LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"}
)
