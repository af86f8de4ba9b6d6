// Apollo Client asks the same query twice by its hash alone; the document goes along only where the server wants it.
import { createHash } from 'node:crypto'
import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from '@apollo/client'
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries'
import { UPDATE } from './operations.js'

const [url, id] = process.argv.slice(2)
const requests = []
const watchedFetch = async (target, options) => {
  const response = await fetch(target, options)
  const { errors } = await response.clone().json()
  requests.push({
    method: options.method,
    hasDocument: `${target}${options.body ?? ''}`.includes('revision'),
    code: errors?.[0].extensions.code ?? null,
  })
  return response
}
const sha256 = (document) => createHash('sha256').update(document).digest('hex')
const link = ApolloLink.from([
  new PersistedQueryLink({ sha256, useGETForHashedQueries: true }),
  new HttpLink({ uri: url, fetch: watchedFetch }),
])
const answers = []
for (let times = 0; times < 2; times += 1) {
  const client = new ApolloClient({ cache: new InMemoryCache(), link })
  answers.push((await client.query({ query: gql(UPDATE), variables: { id } })).data.stackUpdate)
  client.stop()
}
console.log(JSON.stringify({ requests, answers }))
