"""The relay's settings with channels_redis' own pub/sub layer in the place of the relay's."""

from marketfeed.settings import *  # noqa: F403
from marketfeed.settings import CHANNEL_LAYERS

CHANNEL_LAYERS["default"]["BACKEND"] = "channels_redis.pubsub.RedisPubSubChannelLayer"
