"""The characters: how each looks, and the words that annotators have for them."""

from dataclasses import dataclass

Color = tuple[int, int, int]

LIGHT: Color = (250, 214, 186)
DARK: Color = (176, 122, 88)


@dataclass(frozen=True)
class Character:
    """One person: phrases (the first is the plainest), colours (RGB) and shape.

    All clothes are about as bright against the dull scenes; who it is shows in the hue.
    """

    phrases: tuple[str, ...]
    cloth: Color
    hair: Color
    skin: Color
    dress: bool
    scale: float = 1.0

    @property
    def legs(self) -> Color:
        """Trousers in a darker shade of the clothes; below a dress, the skin."""
        return self.skin if self.dress else tuple(int(0.7 * part) for part in self.cloth)


def _person(
    noun: str, nick: str, color: str, garment: str, cloth: Color, hair: Color, skin: Color, scale: float = 1.0
) -> Character:
    article = "an" if color[0] in "aeiou" else "a"
    phrases = (
        f"{noun} in {article} {color} {garment}",
        f"{nick} in {color}",
        f"{noun} wearing {color}",
        f"{nick} with {article} {color} {garment}",
        f"{noun} in {color}",
    )
    return Character(phrases, cloth, hair, skin, garment in ("dress", "coat"), scale)


CHARACTERS = (
    _person("woman", "lady", "red", "dress", (250, 70, 60), (90, 54, 36), LIGHT),
    _person("man", "guy", "blue", "shirt", (84, 140, 255), (60, 44, 34), LIGHT, 1.05),
    _person("girl", "child", "green", "dress", (70, 224, 96), (232, 190, 96), LIGHT, 0.9),
    _person("boy", "kid", "yellow", "shirt", (255, 236, 70), (50, 42, 40), DARK, 0.9),
    _person("man", "guy", "turquoise", "coat", (60, 226, 222), (120, 84, 56), LIGHT, 1.05),
    _person("woman", "lady", "white", "suit", (255, 255, 255), (52, 44, 44), DARK),
    _person("woman", "lady", "purple", "coat", (206, 96, 250), (236, 214, 170), LIGHT),
    _person("man", "guy", "orange", "vest", (255, 160, 50), (54, 48, 46), DARK, 1.05),
)
