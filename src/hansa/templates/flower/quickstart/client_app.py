"""What each member runs."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from quickstart.task import Net, load_data
from quickstart.task import test as test_fn
from quickstart.task import train as train_fn

app = ClientApp()


def prepare(msg: Message, context: Context):
    """The model that was sent, and this member's data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    place = context.node_config
    data = load_data(place["partition-id"], place["num-partitions"], context.run_config["batch-size"])
    return model, *data


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train on local data."""
    model, trainloader, _ = prepare(msg, context)
    loss = train_fn(model, trainloader, context.run_config["local-epochs"], msg.content["config"]["lr"])
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(trainloader.dataset)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test on local data."""
    model, _, valloader = prepare(msg, context)
    loss, accuracy = test_fn(model, valloader)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(valloader.dataset)})
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)
