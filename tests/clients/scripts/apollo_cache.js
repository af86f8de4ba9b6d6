// How Apollo Client keeps what the service answers and pushes.
import { InMemoryCache } from '@apollo/client'
import { relayStylePagination } from '@apollo/client/utilities'

const newest = ({ __ref }) => ({ __ref: __ref.split('@')[0] })

export const typePolicies = {
  StackUpdate: {
    // Whatever is older than what is kept is filed beside it, under an id that nothing refers to ...
    keyFields({ id, revision }, { readField }) {
      const kept = `StackUpdate:${id}`
      return revision < readField('revision', { __ref: kept }) ? `${kept}@${revision}` : kept
    },
    // ... so that a late answer never overwrites a newer push.
    merge: (_, incoming) => newest(incoming),
    fields: { resources: relayStylePagination() },
  },
  StackUpdateConnection: { fields: { nodes: { merge: (_, incoming) => incoming.map(newest) } } },
  CloudResource: { fields: { stackUpdates: relayStylePagination(['filter']) } },
  Query: {
    fields: {
      stackUpdates: relayStylePagination(['filter']),
      cloudResources: relayStylePagination(['filter']),
    },
  },
}

// Without the types that implement UserError, `... on UserError { code message }` would give nothing.
export async function newestCache(url) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: '{ __schema { types { name possibleTypes { name } } } }' }),
  })
  const { types } = (await response.json()).data.__schema
  const abstract = types.filter((type) => type.possibleTypes)
  const possibleTypes = Object.fromEntries(abstract.map((type) => [type.name, type.possibleTypes.map((it) => it.name)]))
  return new InMemoryCache({ possibleTypes, typePolicies })
}
