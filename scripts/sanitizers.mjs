/**
 * The linker's options by which a program shows its sanitizer's functions to the libraries that it loads later: the double of libcuda
 * is one, and has none of its own.
 *
 * @param {'asan' | 'tsan'} name
 */
export function exportSanitizer(name) {
  return [name, 'sanitizer'].map((prefix) => `-Clink-arg=-Wl,--export-dynamic-symbol=__${prefix}_*`).join(' ')
}
