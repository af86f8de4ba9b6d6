// Compiles relay/ with Relay's compiler, and reads the operations that came of it.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import compiler from 'relay-compiler'

const { status, stdout, stderr } = spawnSync(compiler, ['relay.config.json'], { cwd: 'relay', encoding: 'utf8' })
const artifacts = existsSync('relay/__generated__') ? readdirSync('relay/__generated__') : []
const operations = artifacts.map((file) => {
  const [, text] = readFileSync(`relay/__generated__/${file}`, 'utf8').match(/"text": (".*")/) ?? []
  return [file.split('.')[0], text && JSON.parse(text)]
})
console.log(JSON.stringify({ status, said: stdout + stderr, operations: Object.fromEntries(operations) }))
