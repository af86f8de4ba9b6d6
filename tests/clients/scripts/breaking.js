// The breaking changes between each two schemas that follow each other, given by their files, oldest first.
import { readFileSync } from 'node:fs'
import { CriticalityLevel, diff } from '@graphql-inspector/core'
import { buildSchema } from 'graphql'

const schemas = process.argv.slice(2).map((file) => buildSchema(readFileSync(file, 'utf8')))
const breaking = []
for (let index = 1; index < schemas.length; index += 1) {
  const changes = await diff(schemas[index - 1], schemas[index])
  const found = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking)
  breaking.push(found.map(({ message }) => message))
}
console.log(JSON.stringify(breaking))
