/** A progress bar where someone is watching, one plain line per step where not. */

const WIDTH = 28
const SHOW_EVERY_MS = 50

export class Progress {
  readonly #live = process.stdout.isTTY === true && process.env['TERM'] !== 'dumb'
  readonly #start = performance.now()
  #shown = 0

  constructor(readonly label: string) {
    this.at(0)
  }

  /** Shows how far the step is, from 0 to 1. */
  at(fraction: number): void {
    const now = performance.now()
    if (!this.#live || (now - this.#shown < SHOW_EVERY_MS && fraction > 0)) return
    this.#shown = now
    const done = Math.round(Math.min(fraction, 1) * WIDTH)
    process.stdout.write(`\r${this.label.padEnd(40)}[${'='.repeat(done)}${' '.repeat(WIDTH - done)}]`)
  }

  /** Replaces the bar by the step's line; returns the milliseconds it took. */
  done(note = ''): number {
    const ms = performance.now() - this.#start
    if (this.#live) process.stdout.write('\r\x1b[2K')
    console.log(`${this.label.padEnd(40)}${note === '' ? `${ms.toFixed(0)} ms` : note}`)
    return ms
  }
}
