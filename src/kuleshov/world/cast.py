"""The characters: how each looks, and the words that annotators have for them."""

from dataclasses import dataclass

Color = tuple[int, int, int]

SKIN_LIGHT: Color = (238, 200, 170)
SKIN_DARK: Color = (140, 96, 68)


@dataclass(frozen=True)
class Character:
    """One person: phrases (the first is the plainest), colours (RGB) and shape."""

    phrases: tuple[str, ...]
    cloth: Color
    legs: Color
    hair: Color
    skin: Color
    dress: bool
    scale: float = 1.0


CHARACTERS = (
    Character(
        (
            "woman in a red dress",
            "lady in red",
            "woman wearing a red dress",
            "red dressed woman",
            "woman in red",
        ),
        (214, 34, 40),
        (238, 200, 170),
        (60, 36, 24),
        SKIN_LIGHT,
        True,
    ),
    Character(
        ("man in a blue shirt", "guy in blue", "man wearing a blue shirt", "blue shirted man", "man in blue"),
        (40, 84, 224),
        (40, 40, 60),
        (40, 28, 20),
        SKIN_LIGHT,
        False,
        1.05,
    ),
    Character(
        (
            "girl in a green dress",
            "girl in green",
            "young girl wearing green",
            "green dressed girl",
            "child in green",
        ),
        (32, 168, 62),
        (238, 200, 170),
        (212, 168, 72),
        SKIN_LIGHT,
        True,
        0.9,
    ),
    Character(
        (
            "boy in a yellow shirt",
            "boy in yellow",
            "young boy wearing yellow",
            "yellow shirted boy",
            "kid in yellow",
        ),
        (244, 212, 40),
        (70, 60, 52),
        (30, 24, 22),
        SKIN_DARK,
        False,
        0.9,
    ),
    Character(
        (
            "man in a black coat",
            "guy in black",
            "man wearing a black coat",
            "black coated man",
            "man in black",
        ),
        (24, 24, 28),
        (24, 24, 28),
        (92, 60, 36),
        SKIN_LIGHT,
        True,
        1.05,
    ),
    Character(
        (
            "woman in a white suit",
            "lady in white",
            "woman wearing a white suit",
            "white suited woman",
            "woman in white",
        ),
        (246, 246, 246),
        (226, 226, 230),
        (24, 20, 20),
        SKIN_DARK,
        False,
    ),
    Character(
        (
            "woman in a purple coat",
            "lady in purple",
            "woman wearing purple",
            "purple coated woman",
            "woman in purple",
        ),
        (146, 44, 176),
        (60, 40, 70),
        (220, 200, 150),
        SKIN_LIGHT,
        True,
    ),
    Character(
        (
            "man in an orange vest",
            "guy in orange",
            "man wearing an orange vest",
            "orange vested man",
            "man in orange",
        ),
        (246, 126, 22),
        (60, 64, 70),
        (28, 24, 22),
        SKIN_DARK,
        False,
        1.05,
    ),
)
