"""What each member runs."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits.task import accuracy, fit, own

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train on local rows."""
    weights = msg.content["arrays"].to_numpy_ndarrays()
    images, labels = own(context.node_config["partition-id"], context.node_config["num-partitions"])
    loss = fit(weights, images, labels)
    metrics = MetricRecord({"loss": loss, "num-examples": len(images)})
    return Message(RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test on local rows."""
    weights = msg.content["arrays"].to_numpy_ndarrays()
    images, labels = own(context.node_config["partition-id"], context.node_config["num-partitions"])
    metrics = MetricRecord({"loss": 1 - accuracy(weights, images, labels), "num-examples": len(images)})
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)
