"""A machine with more lanes and memories than a device has room for: what a config may be, beyond the presets."""

__all__ = ["LARGE"]

#: Eight cores of eight PEs, two lanes a core, a selector, as a config is named.
LARGE = "single,cores=8,lanes=2,list_words=8192,job_queue=32,selector=4"
