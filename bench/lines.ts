/** What benchmark programs print, gathered by work and peer. */

/** A JSON line of a program. Times in nanoseconds an operation, resident memory in MiB. */
export interface Line {
  readonly peer: string
  readonly work: string
  readonly size: number
  readonly threads?: number
  readonly ns?: number
  readonly samples?: readonly number[]
  readonly cpu?: readonly number[]
  readonly peak_mib?: number
  readonly live_every?: number
  readonly before?: number
  readonly idle?: number
}

/** One peer's samples of one work. */
export interface Samples {
  readonly peer: string
  readonly work: string
  readonly size: number
  readonly threads: number
  /** Of how many blocks one stays alive: 0 for none. Residency only. */
  readonly liveEvery: number
  readonly wall: number[]
  /** In the thread's processor time, where the program says that. */
  readonly cpu: number[]
  /** Peaks of resident memory, or what stayed resident, over the start. */
  readonly mib: number[]
}

/** Which samples. */
export interface Choice {
  readonly peer: string
  readonly work: string
  /** Any, when it is left out: works whose size depends on --quick. */
  readonly size?: number
  readonly threads?: number
  readonly liveEvery?: number
}

export class Lines {
  readonly #samples = new Map<string, Samples>()

  add(lines: readonly Line[]): void {
    for (const line of lines) {
      const { peer, work, size, threads = 1, live_every: liveEvery = 0 } = line
      const key = [peer, work, size, threads, liveEvery].join('|')
      let samples = this.#samples.get(key)
      if (samples === undefined) {
        samples = { peer, work, size, threads, liveEvery, wall: [], cpu: [], mib: [] }
        this.#samples.set(key, samples)
      }
      if (line.ns !== undefined) samples.wall.push(...(line.samples ?? [line.ns]))
      samples.cpu.push(...(line.cpu ?? []))
      if (line.peak_mib !== undefined) samples.mib.push(line.peak_mib)
      if (line.idle !== undefined && line.before !== undefined) samples.mib.push(line.idle - line.before)
    }
  }

  all(): Samples[] {
    return [...this.#samples.values()]
  }

  find({ peer, work, size, threads = 1, liveEvery = 0 }: Choice): Samples | undefined {
    return this.all().find(
      (samples) =>
        samples.peer === peer &&
        samples.work === work &&
        samples.threads === threads &&
        samples.liveEvery === liveEvery &&
        (size === undefined || samples.size === size),
    )
  }
}
