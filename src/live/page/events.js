// The server's events, each once: it numbers them, and a browser that connects again says the last number that it saw.

/**
 * Listens. `handle` gets each event; `connection` gets `open`, `lost` (it is tried again) or `closed`.
 * Returns what ends it.
 */
export function listen(handle, connection) {
  const source = new EventSource('events');
  let seen = 0;
  source.onopen = () => connection('open');
  source.onerror = () => connection(source.readyState === EventSource.CLOSED ? 'closed' : 'lost');
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    // What has no number (hello, gap) is about the connection, and has the number of the event before.
    const numbered = event.event !== 'hello' && event.event !== 'gap';
    const number = Number(message.lastEventId);
    if (numbered && number <= seen) return;
    if (numbered) seen = number;
    handle(event);
  };
  return () => source.close();
}
