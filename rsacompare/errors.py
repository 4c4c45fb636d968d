"""The errors of rsacompare: each says what is wrong, where, what was expected and what to do."""


class RsacompareError(Exception):
    """Base of every error that rsacompare raises on purpose."""


class LabelError(RsacompareError):
    """Labels (stimulus_id, roi, layer, subject) are missing, duplicated or do not match."""


class DataError(RsacompareError):
    """Values or files that cannot be used: NaN, empty ROI, truncated or unreadable file."""


class ProtocolError(RsacompareError):
    """A choice of analysis that does not exist or makes no sense: unknown name, bad option."""


class FetchError(RsacompareError):
    """A file could not be had: no network, wrong checksum, not in the offline folder."""


class MissingDependency(RsacompareError):
    """An optional library is needed; the message holds the exact install line."""
