// What graphql-eslint finds in schema.graphql.
import { ESLint } from 'eslint'

const [{ messages }] = await new ESLint().lintFiles('schema.graphql')
console.log(JSON.stringify(messages.map(({ line, ruleId, message }) => `${line}: ${ruleId}: ${message}`)))
