"""What all tests share."""

from hypothesis import HealthCheck, settings

# The first draw of any text builds a table, which a busy machine takes long for; and the same
# examples every time tell a broken change from bad luck.
settings.register_profile(
    "vidground", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vidground")
