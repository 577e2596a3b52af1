// An event handler of any name, named by handler.
export const process = async (event, context) => ({ processed: event.rawPath });
