// What the broker counts: plain numbers that the hot path adds to, since the start. What can be asked when it is wanted (how many
// sessions, how much is stored) is not counted here but handed over as gauges.

export class Stats {
  /** MQTT packets of every kind. */
  messagesReceived = 0
  messagesSent = 0
  /** On the wire under TLS: of MQTT, headers included. */
  bytesReceived = 0
  bytesSent = 0
  publishReceived = 0
  publishSent = 0
  /** Copies that a full queue or a slow receiver cost. */
  publishDropped = 0
  /** Payloads alone. */
  publishBytesReceived = 0
  publishBytesSent = 0
  /** Connections accepted, whatever became of them. */
  socketConnections = 0
  /** CONNECT packets. */
  connections = 0
  /** The most sessions there ever were at once. */
  clientsMaximum = 0
  /** Clients that had to go because of their certificate. */
  certificatesLost = 0
  /** Sessions that ended by `persistent_client_expiration` or their expiry interval. */
  clientsExpired = 0

  /** To be told whenever a session begins. */
  noteClients(total: number): void {
    if (total > this.clientsMaximum) this.clientsMaximum = total
  }
}

/** How things stand at the moment of asking. */
export interface Gauges {
  /** Sessions, connected or not. */
  readonly clientsTotal: number
  readonly clientsConnected: number
  /** Messages kept for retained topics, queues and windows, each once; their payloads. */
  readonly messagesStored: number
  readonly messageBytesStored: number
  readonly subscriptions: number
  readonly sharedSubscriptions: number
  readonly retainedMessages: number
  /** Packets that wait to be written, of all connections. */
  readonly packetsOut: number
  readonly packetBytesOut: number
  readonly heapCurrent: number
  readonly heapMaximum: number
}
