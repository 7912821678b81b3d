// Runs one row of the attack table in this process and prints what happened as one line of JSON.
//
//   node --expose-gc __test__/attacks/run.mjs 'fs.read, callback' [mode = guarded] [rounds = 24]
//   node __test__/attacks/run.mjs --list
import { Attack, modes } from './harness.mjs'
import { rows } from './table.mjs'

const [name, mode = 'guarded', rounds = '24'] = process.argv.slice(2)

if (name === '--list') {
  console.log(Object.keys(rows).join('\n'))
} else {
  const row = rows[name]
  if (row === undefined || !modes.includes(mode)) throw new Error(`no row ${name} or mode ${mode}; see --list`)
  const attack = new Attack(name, mode, Number(rounds))
  await row(attack)
  const result = await attack.end()
  await new Promise((resolve) => process.stdout.write(`${JSON.stringify(result)}\n`, resolve))
  process.exit(0)
}
