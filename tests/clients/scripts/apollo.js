// Apollo Client deploys a manifest, watches it to its end and then finds it in its cache.
import { gql } from '@apollo/client'
import { newestCache } from './apollo_cache.js'
import { apolloClient, pushed } from './apollo_links.js'
import { APPLY, DEPLOY, UPDATE, WATCH } from './operations.js'
import { sockets } from './sockets.js'

const [url, transport, manifest] = process.argv.slice(2)
const client = apolloClient(url, transport, await newestCache(url))
const applied = await client.mutate({ mutation: gql(APPLY), variables: { manifest } })
const deployed = await client.mutate({
  mutation: gql(DEPLOY), variables: { id: applied.data.applyCloudResource.cloudResource.id },
})
const { id } = deployed.data.deployCloudResource.stackUpdate
const before = await client.query({ query: gql(UPDATE), variables: { id } })
const pushes = await pushed(client, gql(WATCH), { id })
const after = await client.query({ query: gql(UPDATE), variables: { id }, fetchPolicy: 'cache-only' })
const refused = await client.mutate({ mutation: gql(DEPLOY), variables: { id } })
console.log(JSON.stringify({
  before: before.data.stackUpdate,
  pushes: pushes.map((push) => push.stackUpdateChanged.stackUpdate),
  after: after.data.stackUpdate,
  refused: refused.data.deployCloudResource,
  sockets,
}))
client.stop()
client.close?.()
