// Apollo Client reads a list page by page into one list of its cache, while a new deployment comes to the list's head.
import { gql } from '@apollo/client'
import { newestCache } from './apollo_cache.js'
import { apolloClient } from './apollo_links.js'
import { DEPLOY, HISTORY } from './operations.js'

const [url, cloudResourceId] = process.argv.slice(2)
const client = apolloClient(url, 'multipart', await newestCache(url))
const query = { query: gql(HISTORY), variables: { first: 2, filter: { cloudResourceId } } }
const history = client.watchQuery(query)
let page = await new Promise((resolve) => {
  history.subscribe(({ data, dataState }) => { if (dataState === 'complete') resolve(data.stackUpdates) })
})
const kept = () => client.readQuery(query).stackUpdates.edges.map(({ node }) => node.id)
const lists = [kept()]
const deployed = await client.mutate({ mutation: gql(DEPLOY), variables: { id: cloudResourceId } })
while (page.pageInfo.hasNextPage) {
  page = (await history.fetchMore({ variables: { after: page.pageInfo.endCursor } })).data.stackUpdates
  lists.push(kept())
}
console.log(JSON.stringify({ lists, deployed: deployed.data.deployCloudResource.stackUpdate.id }))
client.stop()
