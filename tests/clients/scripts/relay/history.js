// A list with a live record, as a front end in Relay declares them; only the compiler reads this.
import { graphql } from 'relay-runtime'

export const History = graphql`
  query historyQuery($count: Int!, $cursor: String, $filter: StackUpdateFilter) {
    ...history_updates
  }
`
export const Updates = graphql`
  fragment history_updates on Query @refetchable(queryName: "historyPageQuery") {
    stackUpdates(first: $count, after: $cursor, filter: $filter) @connection(key: "history_stackUpdates") {
      edges { node { id ...history_update } }
    }
  }
`
export const Update = graphql`
  fragment history_update on StackUpdate @refetchable(queryName: "historyUpdateQuery") {
    revision
    status
  }
`
export const Watch = graphql`
  subscription historyWatchSubscription($id: ID!) {
    stackUpdateChanged(id: $id) {
      ... on StackUpdateChange { stackUpdate { ...history_update } }
      ... on UserError { code message }
    }
  }
`
export const Deploy = graphql`
  mutation historyDeployMutation($id: ID!) {
    deployCloudResource(input: { cloudResourceId: $id }) {
      ... on DeployCloudResourceSuccess {
        stackUpdate @prependNode(connections: [], edgeTypeName: "StackUpdateEdge") { id ...history_update }
      }
      ... on UserError { code message }
    }
  }
`
