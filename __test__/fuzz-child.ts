/** Runs the calls of one seed and prints the report: `fuzz-child.ts seed journal walks [calls]`. */
import { fuzz } from './fuzz-engine.js'

const [seed, journal, walks, calls] = process.argv.slice(2)
const report = await fuzz({ seed: Number(seed), journal: journal!, walks: Number(walks), ...(calls === undefined ? {} : { calls: Number(calls) }) })
process.stdout.write(JSON.stringify(report))
