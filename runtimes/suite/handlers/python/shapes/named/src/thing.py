"""A handler of any name, named by handler src/thing.work."""


def work(event, context):
    return "worked"
