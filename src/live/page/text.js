// Numbers and times for people, and elements with text. Nothing here makes markup of text: all of it may come from a
// guest.

/** An element with a class and children; strings become text. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Seconds: `8.3 s`, `2 min 05 s`, `1 h 02 min`, as visabuild writes them. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, '0');
  if (whole < 60) return `${seconds.toFixed(1)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** Seconds of something that runs: `4 s`, `2:05`, `1:02:09`. */
export function counting(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Since the beginning: `mm:ss`. */
export function clock(elapsed) {
  const whole = Math.floor(elapsed);
  return `${String(Math.floor(whole / 60)).padStart(2, '0')}:${String(whole % 60).padStart(2, '0')}`;
}

/** Bytes in binary units. */
export function size(bytes) {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return unit === 'B' ? `${value} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(2)} TiB`;
}

/** How far something is. */
export function progress({ done, total, unit }) {
  if (unit === 'percent') return `${done} %`;
  if (unit === 'bytes') return total == null ? size(done) : `${size(done)} of ${size(total)}`;
  return total == null ? `${done} ${unit}` : `${done} of ${total} ${unit}`;
}

/** The part that is done, from 0 to 1; null if the whole is not known. */
export function part({ done, total, unit }) {
  const whole = unit === 'percent' ? 100 : total;
  return whole ? Math.min(1, done / whole) : null;
}
