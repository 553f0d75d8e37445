"""A text as a QR code (ISO/IEC 18004): a join string, for a host with a camera.

Error contract: `ConfigError` for a text that is too long for one.
"""

from __future__ import annotations

import io

import segno

from vswitch.errors import ConfigError


def qr_svg(text: str) -> str:
    """An SVG image, black on white, with room around it. Takes some 20 ms for a join string."""
    image = io.BytesIO()
    try:
        code = segno.make_qr(text, error="m")
    except segno.DataOverflowError:
        raise ConfigError("the text is too long for a QR code") from None
    code.save(image, kind="svg", xmldecl=False, scale=4, light="#fff")
    return image.getvalue().decode()
