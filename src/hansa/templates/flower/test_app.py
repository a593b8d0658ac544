"""What members rely on in this app. Run it with: pytest"""

import torch
from quickstart import task

MEMBERS = 6


def trained(seed=1):
    """Member 0's first round, from one and the same model."""
    torch.manual_seed(0)
    model = task.Net()
    before = task.test(model, task.load_data(0, MEMBERS, 16)[1])[0]
    torch.manual_seed(seed)
    loader, validation = task.load_data(0, MEMBERS, 16)
    task.train(model, loader, 2, 0.1)
    return model, before, task.test(model, validation)[0]


def test_training_lowers_the_loss_on_data_that_it_did_not_see():
    _, before, after = trained()
    assert after < before


def test_one_seed_gives_one_update():
    first, second = trained()[0].state_dict(), trained()[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_member_has_rows_of_its_own():
    parts = [task.load_data(i, MEMBERS, 16) for i in range(MEMBERS)]
    rows = [len(loader.dataset) for part in parts for loader in part]
    assert min(rows) > 0
    assert sum(rows) == len(task.digits())
