"""The five published systems that Hansa joins, A to E: their steps here, and each as a layer of terms."""
