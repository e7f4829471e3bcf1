"""What the paper reports: the rows of Table 1 and their Recall@200."""

# Train method -> name, in the order of Table 1.
ROWS = {
    "item_cf": "Item-CF",
    "youtube_dnn": "YouTube product-DNN",
    "hsm": "HSM",
    "tdm": "TDM",
    "dnn": "DNN",
    "jtm_j": "JTM-J",
    "jtm_h": "JTM-H",
    "jtm": "JTM",
}

# Not in Table 1: the other line of Fig. 2, and two rules that need no model.
BESIDE = {
    "tdm_cluster": "Clustering, hierarchical",
    "repeat": "Own purchases, then best-sellers",
    "popular": "Best-sellers",
}

# What people would take instead today; nothing published stands beside.
TODAY = {
    "als": "ALS",
    "ease": "EASE",
    "sasrec": "SASRec",
}

NAMES = ROWS | BESIDE | TODAY

# The row that all others are compared with.
OURS = "jtm"

# (M, beam width). Where a method scans all items there is no beam, and its
# figure stands at every cut of the same M.
CUTS = ((200, 400), (20, 40), (20, 20))

DATA_SETS = {"books": "Amazon Books", "userbehavior": "UserBehavior"}

# Table 1, in %.
RECALL_200 = {
    "books": {
        "item_cf": 8.18,
        "youtube_dnn": 8.26,
        "hsm": 6.22,
        "tdm": 7.49,
        "dnn": 8.57,
        "jtm_j": 7.60,
        "jtm_h": 10.45,
        "jtm": 12.45,
    },
    "userbehavior": {
        "item_cf": 6.75,
        "youtube_dnn": 10.15,
        "hsm": 8.62,
        "tdm": 10.84,
        "dnn": 13.45,
        "jtm_j": 11.72,
        "jtm_h": 12.93,
        "jtm": 14.71,
    },
}
