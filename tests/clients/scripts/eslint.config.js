// The rules for schema.graphql: all that graphql-eslint recommends for a schema and for Relay, but for what stands here.
import { readFileSync } from 'node:fs'
import graphql from '@graphql-eslint/eslint-plugin'
import { buildSchema } from 'graphql'

const schema = buildSchema(readFileSync('schema.graphql', 'utf8'))
const implementing = (name) => schema.getPossibleTypes(schema.getType(name)).map((type) => type.name)

// A client keeps by its id what it can ask for again. These can't be asked for:
const WITHOUT_ID = {
  suffixes: [
    'Success', // the answer to one mutation
    'Connection', 'Edge', // a place in a list
    'Change', 'Ready', // one push of a subscription
  ],
  types: [
    ...implementing('UserError'), // a refusal, the answer to one mutation
    ...implementing('StackUpdateEvent'), // known by its `seq` within its stack update
    'PageInfo', 'StackUpdateEventBatch', 'StackUpdateEventPage', // a place in a list or in a log
    // A part of its record, as it was at that revision:
    'Cancellation', 'Diagnostic', 'Failure', 'Label', 'ManifestProblem', 'Progress', 'ProgressCount', 'QueuePlace',
    'StackOutput', 'StackUpdateActions',
    'ServerInfo', // there is only one
  ],
}

export default [
  {
    files: ['schema.graphql'],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: 'schema.graphql' } } },
    plugins: { '@graphql-eslint': graphql },
    rules: {
      ...graphql.configs['flat/schema-recommended'].rules,
      ...graphql.configs['flat/schema-relay'].rules,
      // More than is recommended: everything is described.
      '@graphql-eslint/require-description': ['error', {
        types: true,
        rootField: true,
        DirectiveDefinition: true,
        EnumValueDefinition: true,
        FieldDefinition: true,
        InputValueDefinition: true,
      }],
      '@graphql-eslint/strict-id-in-types': ['error', { exceptions: WITHOUT_ID }],
      '@graphql-eslint/relay-edge-types': ['error', {
        listTypeCanWrapOnlyEdgeType: false, // connections give `nodes` beside `edges`, for clients that need no cursors
        shouldImplementNode: false, // a resource's progress is a part of its stack update, and `node` does not find it
      }],
      // The resources of a stack update are read as they come, from the first one on.
      '@graphql-eslint/relay-arguments': ['error', { includeBoth: false }],
    },
  },
]
