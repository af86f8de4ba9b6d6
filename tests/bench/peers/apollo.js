// Apollo Server as its documentation shows it, with records from memory.
import { readFileSync } from 'node:fs'
import { ApolloServer } from '@apollo/server'
import { startStandaloneServer } from '@apollo/server/standalone'

const records = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const nodes = new Map(records.map(({ node }) => [node.id, node]))
const typeDefs = `
  type StackUpdate {
    id: ID!, status: String!, phase: String!, createdAt: String!, cloudResourceId: ID!, stackFqdn: String
  }
  type StackUpdateEdge { cursor: String!, node: StackUpdate! }
  type PageInfo { hasNextPage: Boolean!, endCursor: String }
  type StackUpdateConnection { edges: [StackUpdateEdge!]!, pageInfo: PageInfo! }
  type Query { stackUpdates(first: Int!): StackUpdateConnection!, stackUpdate(id: ID!): StackUpdate }
`
const resolvers = {
  Query: {
    stackUpdates: async (_, { first }) => {
      const edges = records.slice(0, first)
      return { edges, pageInfo: { hasNextPage: records.length > first, endCursor: edges.at(-1).cursor } }
    },
    stackUpdate: async (_, { id }) => nodes.get(id) ?? null
  }
}
const { url } = await startStandaloneServer(new ApolloServer({ typeDefs, resolvers }), {
  listen: { host: '127.0.0.1', port: 0 }
})
console.log(url)
